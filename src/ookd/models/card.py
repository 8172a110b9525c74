"""The model card of a folder: where a model comes from, for those who did not train it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml


def model_card(family: str, names: Sequence[str], notes: Mapping[str, str]) -> str:
    """The text of the card. Its head is what the hub reads."""
    head = {"library_name": "ookd", "tags": [family]}
    if "licence" in notes:
        head |= {"license": "other", "license_name": notes["licence"]}
    lines = [f"- Classes: {', '.join(names)}"]
    if "source" in notes:
        lines.append(f"- Its training began with the weights of {notes['source']}.")
    if "licence" in notes:
        lines.append(f"- The licence of those weights: {notes['licence']}.")
    if "labelled_by" in notes:
        lines.append(f"- Its training data were labelled by {notes['labelled_by']}.")
        lines.append(
            "- Whether the licence of that teacher binds what learned from its labels is for you to judge."
        )
    body = "\n".join(lines)
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# {family}\n\n{body}\n"
