"""Long trials of whole commands."""
