"""A VidEoMT of a few thousand parameters, as `transformers` makes and writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import VideomtConfig, VideomtForUniversalSegmentation

NAMES = ["cat", "dog", "owl", "fox", "hen"]
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_blocks": 2,
    "num_queries": 10,
    "image_size": 64,
}


def theirs(names: list[str] | None = None, **changes: Any) -> VideomtForUniversalSegmentation:
    """The model of `transformers` with random weights that make frames and queries matter."""
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names or NAMES))} if names != [] else {"num_labels": 5}
    return VideomtForUniversalSegmentation(VideomtConfig(**{**TINY, **labels, **changes})).eval()


def written(folder: Path, card: str = "", **changes: Any) -> Path:
    """The folder that `save_pretrained` of `transformers` writes, with a model card."""
    theirs(**changes).save_pretrained(folder)
    if card:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return folder
