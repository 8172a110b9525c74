"""The licence of published weights: where to find it, and a short description."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ookd import untrusted
from ookd.errors import UserError

CARD = "README.md"  # a model's page on the hub; its head names the licence
UNKNOWN = "unknown"  # the text for weights without a known licence
_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial", re.IGNORECASE)
_announced: set[tuple[str, str]] = set()


def licence_in(folder: Path) -> str:
    """The licence in the head of a folder's model card; "unknown" where there is none."""
    try:
        text = untrusted.read_text(folder / CARD)
        head = re.match(r"---\n(.*?)\n---", text.replace("\r\n", "\n"), re.DOTALL)
        fields = untrusted.parse_yaml(head[1], CARD) if head else {}
    except UserError:
        return UNKNOWN
    if not isinstance(fields, dict):
        return UNKNOWN
    licence = str(fields.get("license") or UNKNOWN)
    return str(fields.get("license_name") or licence) if licence == "other" else licence


def non_commercial(licence: str) -> bool:
    """Whether it forbids commercial use by its name."""
    return _NON_COMMERCIAL.search(licence) is not None


def described(licence: str) -> str:
    """A licence, with a warning where it forbids commercial use."""
    return f"{licence} (NO COMMERCIAL USE)" if non_commercial(licence) else licence


def announce(name: str, licence: str) -> None:
    """Say once, on standard error, under which licence weights are used."""
    if (name, licence) not in _announced:
        _announced.add((name, licence))
        print(f"{name}: the weights' licence is {described(licence)}", file=sys.stderr)
