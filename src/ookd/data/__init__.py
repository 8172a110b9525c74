"""Videos, frames, masks and annotation formats."""
