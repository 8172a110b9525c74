"""Online students and offline teachers."""
