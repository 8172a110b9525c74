"""The error for bad input: a clear line that says what is wrong, where, and what would be right."""

from __future__ import annotations


class UserError(Exception):
    """Raised for bad input. The command line prints it as one line and exits with code 2."""
