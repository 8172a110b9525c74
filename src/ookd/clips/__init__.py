"""Training clips: where they come from, what is drawn and changed, and how they become batches."""
