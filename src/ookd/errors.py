"""The error for bad input: a clear line that says what is wrong, where, and what would be right."""

from __future__ import annotations


class UserError(Exception):
    """Raised for bad input. The command line prints it as one line and exits with code 2."""


LONGEST = 2000  # characters that are printed of a text


def printable(text: str) -> str:
    """A text with control characters and broken characters written out, which terminals would obey.

    The middle of a very long one is left out: the reason of an error stands at its end.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
