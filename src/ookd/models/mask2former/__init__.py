"""Mask2Former and MaskFormer, for single images, and Mask2Former for clips."""
