"""Offline-to-online distillation: a teacher that sees whole clips teaches a student that sees single frames."""
