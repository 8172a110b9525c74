"""Offline-to-online distillation: what a clip teacher knows is handed to a student that sees single
frames.
"""
