"""A local page for reviewing and correcting labels."""
