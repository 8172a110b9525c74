"""Videos without annotations become training data: labellers, and what is kept of what they say."""
