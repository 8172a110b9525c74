"""IDOL, the published online model."""
