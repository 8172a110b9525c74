"""A whole training run: build or continue it, train, validate, and write model folders and a page.

RUN/model   the weights after the last step
RUN/best    the weights with the highest validation AP so far, if the recipe names validation videos
RUN/run.html, RUN/validation.json   the page of the run, and the report of its last validation
RUN/exported, RUN/agreement.*   with --export: the exported model, and how far to trust it
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from ookd.clips.loader import Mixture, labelled_by
from ookd.config import Recipe
from ookd.engine.build import check_tracker, provenance
from ookd.engine.launcher import is_main
from ookd.engine.loop import Trainer
from ookd.engine.page import VALIDATION, write_run_page
from ookd.engine.randomness import undisturbed
from ookd.engine.run_log import RECIPE, RunLog
from ookd.engine.samples import samples
from ookd.engine.validate import Validation
from ookd.evaluation.report import Report
from ookd.files import write_file
from ookd.locking import locked
from ookd.models import zoo
from ookd.models.protocols import Network

MODEL, BEST, EXPORTED, AGREEMENT = "model", "best", "exported", "agreement"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run returns."""

    model: str  # folder
    steps: int
    seconds: float  # of this call
    ap: float | None  # track AP on the validation source, if the recipe names one

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(recipe: Recipe, folder: Path, cpu: bool = False, verbose: bool = False) -> RunResult:
    """Train into `folder`, or continue the run that is there. With `verbose` all terms are shown."""
    check_tracker(recipe)
    with locked(folder) if is_main() else nullcontext():
        return _run(recipe, folder, cpu, verbose)


def _run(recipe: Recipe, folder: Path, cpu: bool, verbose: bool) -> RunResult:
    began = time.perf_counter()
    log = RunLog(recipe, folder, not is_main(), verbose)
    trainer = Trainer(recipe, folder, log, cpu)
    monitor = RunMonitor(trainer, log)
    try:
        continued = trainer.resume()
        log.begin()
        if continued:
            done = trainer.step >= recipe.run.steps
            log.note(
                f"finished already: {trainer.step} steps" if done else f"continuing after step {trainer.step}"
            )
            log.display.ap = log.last_ap()
        if recipe.run.steps <= recipe.optim.warmup:
            log.warn(
                f"the learning rate rises for optim.warmup = {recipe.optim.warmup} steps, and the run has "
                f"{recipe.run.steps}: it will hardly learn; set a shorter optim.warmup, or more run.steps"
            )
        monitor()  # make up for a validation that was interrupted
        trainer.fit(monitor)
        monitor()
        model = trainer.trained()
        if is_main():
            save(model, folder / MODEL, trainer)
    finally:
        log.display.close()
        if is_main() and (folder / RECIPE).exists():
            write_run_page(folder)
        trainer.accelerator.end_training()
    return RunResult(str(folder / MODEL), trainer.step, time.perf_counter() - began, log.last_ap())


def save(model: Network, folder: Path, trainer: Trainer) -> None:
    """Write a model folder, which also says what the model has learned from and under which licence."""
    recipe = trainer.recipe
    drawn = all(source.kind == "world" for source in recipe.data.train)
    licence, source = provenance(recipe.model.base, recipe.model.start)
    zoo.save_pretrained(
        model,
        folder,
        trainer.names,
        recipe.tracker,
        trained_on=zoo.DRAWN if drawn and not licence else "",
        licence=licence,
        source=source,
        labelled_by=labelled_by(trainer.loader.stream),
        overwrite=True,
    )


class RunMonitor:
    """Called between steps: validates when it is due, keeps the best model, updates the page."""

    def __init__(self, trainer: Trainer, log: RunLog) -> None:
        self.trainer, self.log, self.recipe = trainer, log, trainer.recipe
        val = self.recipe.data.val
        self.validation = None if val is None else Validation(self.recipe, val, trainer.names)

    def __call__(self) -> None:
        step, run = self.trainer.step, self.recipe.run
        if self.validation is not None and self._due(step):
            with undisturbed():
                self._validate(self.validation)
        if is_main() and step and step % run.save_every == 0:
            write_run_page(self.log.out)

    def _due(self, step: int) -> bool:
        """Whether all processes should validate now."""
        every = self.recipe.run.validate_every
        if step != self.recipe.run.steps and not (step and every and step % every == 0):
            return False
        answer = [is_main() and not any(line["step"] == step for line in self.log.validations())]
        broadcast_object_list(answer)
        return answer[0]

    def _validate(self, validation: Validation) -> None:
        began = time.perf_counter()
        accelerator, display = self.trainer.accelerator, self.log.display
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
        best = report.ap >= max((line["val"]["AP"] for line in self.log.validations()), default=-2)
        if best:
            save(model, self.log.out / BEST, self.trainer)
        pictures = samples(validation.source, validation.truth, found.results)
        document = {"step": step, **report.as_dict(), "samples": [asdict(picture) for picture in pictures]}
        write_file(self.log.out / VALIDATION, json.dumps(document))
        seconds = round(time.perf_counter() - began, 1)
        scores = summary(report)
        self.log.write({"step": step, "val": scores, "best": best, "seconds": seconds})
        accelerator.log({f"val/{name}": value for name, value in scores.items()}, step)
        display.ap = report.ap
        display.note(
            f"step {step}: AP {100 * report.ap:.1f}  AP50 {100 * report.summary['AP50']:.1f}  "
            f"HOTA {100 * report.tracking.hota:.1f}  {report.tracking.switches} identity switches on "
            f"{report.videos} validation videos in {seconds:.0f} s{', the best so far' if best else ''}"
        )
        write_run_page(self.log.out)

    def _class_counts(self) -> dict[str, int]:
        """The number of training tracks of each class."""
        stream: Any = self.trainer.loader.stream
        counts: Counter[str] = Counter()
        for part in stream.parts if isinstance(stream, Mixture) else [stream]:
            counts.update(dict(zip(part.source.names, part.source.class_counts(), strict=True)))
        return counts


def summary(report: Report) -> dict[str, float]:
    """The scores that are followed through the run."""
    frequency = report.strata.get("frequency", {})
    return {
        **{name: report.summary[name] for name in ("AP", "AP50", "AP75")},
        "HOTA": report.tracking.hota,
        "IDF1": report.tracking.idf1,
        "switches": report.tracking.switches,
        **{f"AP_{name}": value for name, value in frequency.items() if value >= 0},
    }
