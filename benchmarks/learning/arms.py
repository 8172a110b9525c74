"""The arms of the ablation, and their recipes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ookd import config
from ookd.config import PairInClip, Recipe, Signal
from ookd.distill.frame_signals import FRAME_SIGNALS
from ookd.distill.pair_signals import PAIR_SIGNALS
from ookd.errors import UserError


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train the student; everything else is as in the recipe."""

    name: str
    about: str
    taught: bool = True  # with the teacher beside it
    pasted: bool = False  # with Minor-Paste
    signals: tuple[str, ...] | None = None  # of the recipe's, or with weight 1; None: the recipe's
    longer: bool = False  # as many steps as distillation takes time for
    offline: bool = False  # not a student: the teacher itself
    changes: tuple[str, ...] = ()  # of the recipe


# the signals that read a teacher's features, which are what controls replace
_FEATURES: tuple[str, ...] = ("embedding", "relation", "key", "soft_association")
_ALL = (
    Arm("alone", "the student without a teacher", taught=False),
    Arm("longer", "without a teacher, for as long as OOKD computes", taught=False, longer=True),
    Arm("paste", "Minor-Paste alone", taught=False, pasted=True),
    Arm(
        "naive",
        "every teacher query, paired by prediction",
        changes=(
            "distill.filter.kind=none",
            "distill.filter.gamma=0",
            "distill.associate=prediction",
            "distill.pair_iou=0",
        ),
    ),
    *(
        Arm(f"qfa-{signal}", f"filtered and associated, {signal} alone", signals=(signal,))
        for signal in (*PAIR_SIGNALS, *FRAME_SIGNALS)
    ),
    Arm("qfa-features", "filtered and associated, the signals that read features", signals=_FEATURES),
    Arm("qfa", "filtered and associated, the recipe's signals"),
    Arm("ookd", "QFA and Minor-Paste", pasted=True),
    *(
        Arm(
            name,
            f"{what} in place of the teacher's features",
            signals=_FEATURES,
            changes=(f"distill.control={kind}",),
        )
        for name, kind, what in (
            ("prototypes", "classes", "class means"),
            ("own-means", "instances", "the student's own means of each instance"),
            ("shuffled", "shuffled", "another instance's features"),
        )
    ),
    Arm("teacher", "the teacher itself, offline", taught=False, offline=True),
)
ARMS = {arm.name: arm for arm in _ALL}


def named(name: str) -> Arm:
    if name not in ARMS:
        near = difflib.get_close_matches(name, ARMS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(ARMS)}"
        raise UserError(f"no arm {name}; {hint}")
    return ARMS[name]


def defined(text: str) -> Arm:
    """An arm from `NAME[=BASE]:key=value,key=value`; without a base it changes `qfa`."""
    head, found, tail = text.partition(":")
    name, _, base = head.partition("=")
    changes = tuple(_split(tail))
    if not found or not name or not all("=" in change for change in changes):
        raise UserError(f"--arm {text}: write it as NAME:key=value,key=value or NAME=BASE:key=value")
    if name in ARMS:
        raise UserError(f"--arm {text}: {name} is an arm already; choose another name")
    start = named(base or "qfa")
    return replace(
        start, name=name, about=f"{start.name} with {', '.join(changes)}", changes=(*start.changes, *changes)
    )


def recipe_of(arm: Arm, name: str, changes: Sequence[str]) -> Recipe:
    """This arm's variant of the recipe `name`, with `changes` that all arms share."""
    base = config.load(name, changes)
    if base.distill is None:
        raise UserError(f"recipe {name} has no `distill`, so its arms would not differ; see nano-distill")
    own = []
    if arm.signals is not None:
        used = {k: one for k, one in base.distill.signals.items() if one.weight > 0 and k in arm.signals}
        used = used or dict.fromkeys(arm.signals, Signal(weight=1.0))
        own.append(set_to("distill.signals", {name: one.model_dump() for name, one in used.items()}))
    if not arm.taught:
        own.append("distill=null")
    if not arm.pasted:
        own.append("data.minor_paste=null")
    elif base.data.minor_paste is None:
        own.append("data.minor_paste={}")
    if arm.longer and isinstance(base.data.frames, PairInClip):  # the same pairs, without a teacher's frames
        own.append(set_to("data.frames", {"kind": "pair", "span": base.data.frames.pair_span}))
    return config.load(name, [*changes, *own, *arm.changes])


def set_to(key: str, value: Any) -> str:
    """A change for `config.load`."""
    return f"{key}={json.dumps(value)}"


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
