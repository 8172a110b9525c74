"""Layers and losses that several families share."""
