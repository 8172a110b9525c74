"""From per-frame queries to tracked objects."""
