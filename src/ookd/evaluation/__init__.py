"""Scoring predicted tracks against ground truth, and telling why points are lost."""
