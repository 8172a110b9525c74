"""How good tracks are, and why they are not better."""
