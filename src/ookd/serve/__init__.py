"""A page and an HTTP API for live and recorded video; many streams share one model."""
