"""A whole training run: build, continue if begun, train, validate, leave a model folder."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ookd.config import Recipe
from ookd.engine import is_main
from ookd.engine.loop import Trainer
from ookd.engine.record import Record
from ookd.engine.validate import validate
from ookd.models import zoo


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    model: str  # folder
    steps: int
    seconds: float  # of this call
    ap: float | None  # track AP on the validation source, if the recipe names one

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(recipe: Recipe, folder: Path, cpu: bool = False) -> Outcome:
    """Train into `folder`, continuing the run that is there."""
    began = time.perf_counter()
    record = Record(recipe, folder, quiet=not is_main())
    trainer = Trainer(recipe, folder, record, cpu)
    if trainer.resume():
        record.note(f"continuing after step {trainer.step}")
    trainer.fit()
    model = trainer.trained()
    ap = None
    if is_main():
        zoo.save_pretrained(model, folder / "model", trainer.names, recipe.tracker, overwrite=True)
        if recipe.data.val is not None:
            ap = validate(model, recipe.data.val, recipe.run.precision, recipe.tracker).ap
            record.write({"step": trainer.step, "val_ap": ap})
            record.note(f"track AP {100 * ap:.1f} on the validation videos")
    return Outcome(str(folder / "model"), trainer.step, time.perf_counter() - began, ap)
