"""Offline-to-online distillation: a clip teacher teaches a student that sees single frames."""
