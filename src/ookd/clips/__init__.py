"""Training clips: their sources, sampling, augmentation and batching."""
