"""Training data from videos without annotations: labellers, and which of their tracks become labels."""
