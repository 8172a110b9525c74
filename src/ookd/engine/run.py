"""A whole training run: build, continue if begun, train and validate, leave model folders and a page.

RUN/model   the weights after the last step
RUN/best    the weights with the highest validation AP so far, where the recipe names validation videos
RUN/run.html, RUN/validation.json   what there is to see
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn

from ookd.config import Recipe
from ookd.data.clips import ClipDataset
from ookd.engine import is_main
from ookd.engine.loop import Trainer
from ookd.engine.page import VALIDATION, write_run_page
from ookd.engine.record import Record, write_whole
from ookd.engine.samples import samples
from ookd.engine.validate import Validation, undisturbed
from ookd.evaluation.report import Report
from ookd.models import zoo

MODEL, BEST = "model", "best"


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
    watch = Watch(trainer, record)
    try:
        if trainer.resume():
            done = trainer.step >= recipe.run.steps
            record.note(
                f"finished already: {trainer.step} steps" if done else f"continuing after step {trainer.step}"
            )
            record.display.ap = record.last_ap()
        watch()  # a validation that an interruption cut short
        trainer.fit(watch)
        watch()
        model = trainer.trained()
        if is_main():
            save(model, folder / MODEL, trainer)
    finally:
        record.display.close()
        if is_main():
            write_run_page(folder)
        trainer.accelerator.end_training()
    return Outcome(str(folder / MODEL), trainer.step, time.perf_counter() - began, record.last_ap())


def save(model: nn.Module, folder: Path, trainer: Trainer) -> None:
    """A model folder that also says if nothing but drawn worlds was learned from."""
    recipe = trainer.recipe
    drawn = all(source.kind == "world" for source in recipe.data.train)
    trained_on = zoo.DRAWN if drawn else ""
    zoo.save_pretrained(model, folder, trainer.names, recipe.tracker, trained_on=trained_on, overwrite=True)


class Watch:
    """Between steps: validates when it is due, keeps the best model, brings the page up to date."""

    def __init__(self, trainer: Trainer, record: Record) -> None:
        self.trainer, self.record, self.recipe = trainer, record, trainer.recipe
        val = self.recipe.data.val
        self.validation = None if val is None else Validation(self.recipe, val, trainer.names)

    def __call__(self) -> None:
        step, run = self.trainer.step, self.recipe.run
        if self.validation is not None and self._due(step):
            with undisturbed():
                self._validate(self.validation)
        if is_main() and step and step % run.save_every == 0:
            write_run_page(self.record.out)

    def _due(self, step: int) -> bool:
        """Whether all processes should validate now."""
        every = self.recipe.run.validate_every
        if step != self.recipe.run.steps and not (step and every and step % every == 0):
            return False
        answer = [
            is_main() and not any("val" in line and line["step"] == step for line in self.record.lines())
        ]
        broadcast_object_list(answer)
        return answer[0]

    def _validate(self, validation: Validation) -> None:
        began = time.perf_counter()
        accelerator, display = self.trainer.accelerator, self.record.display
        display.busy("validating")
        model = self.trainer.trained()
        found = validation.measure(
            model,
            accelerator.process_index,
            accelerator.num_processes,
            self._class_counts() if is_main() else {},
            stop=self.trainer.asked_to_stop,
        )
        if found is None:
            return
        step, report = self.trainer.step, found.report
        best = report.ap >= max(
            (line["val"]["AP"] for line in self.record.lines() if "val" in line), default=-2
        )
        if best:
            save(model, self.record.out / BEST, self.trainer)
        told = {"step": step, **report.as_dict()}
        told["samples"] = [asdict(one) for one in samples(validation.source, validation.truth, found.results)]
        write_whole(self.record.out / VALIDATION, json.dumps(told))
        seconds = round(time.perf_counter() - began, 1)
        scores = summary(report)
        self.record.write({"step": step, "val": scores, "best": best, "seconds": seconds})
        accelerator.log({f"val/{name}": value for name, value in scores.items()}, step)
        display.ap = report.ap
        display.note(
            f"step {step}: AP {100 * report.ap:.1f}  AP50 {100 * report.summary['AP50']:.1f}  "
            f"HOTA {100 * report.tracking.hota:.1f}  {report.tracking.switches} identity switches on "
            f"{report.videos} validation videos in {seconds:.0f} s{', the best so far' if best else ''}"
        )
        write_run_page(self.record.out)

    def _class_counts(self) -> dict[str, int]:
        """How many tracks of each class there are to learn from."""
        stream: Any = self.trainer.loader.stream
        parts: list[ClipDataset] = getattr(stream, "parts", [stream])
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(dict(zip(part.source.names, part.source.class_counts(), strict=True)))
        return counts


def summary(report: Report) -> dict[str, float]:
    """The numbers of a validation that are followed through the run."""
    frequency = report.strata.get("frequency", {})
    return {
        **{name: report.summary[name] for name in ("AP", "AP50", "AP75")},
        "HOTA": report.tracking.hota,
        "IDF1": report.tracking.idf1,
        "switches": report.tracking.switches,
        **{f"AP_{name}": value for name, value in frequency.items() if value >= 0},
    }
