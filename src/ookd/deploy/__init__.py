"""Models outside PyTorch: export, and the runtimes that track with what was exported."""
