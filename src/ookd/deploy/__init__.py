"""Models outside PyTorch: export, and the runtimes that track with an exported model."""
