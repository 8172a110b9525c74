"""What --export adds to a finished run: its model exported, and a report on how far to trust it.

The report compares the exported model with the labels of the run's validation videos, from which it did not
learn. RUN/agreement.json holds its numbers, RUN/agreement.html shows them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ookd.clips.loader import labeller_of
from ookd.clips.sources import DatasetClips
from ookd.config import Recipe
from ookd.deploy.export import export
from ookd.deploy.folder import Kind
from ookd.deploy.loading import load
from ookd.engine.begun import data_of_run
from ookd.engine.build import family_of_base
from ookd.engine.run import AGREEMENT, EXPORTED, MODEL
from ookd.engine.samples import samples
from ookd.engine.validate import Validation
from ookd.errors import UserError
from ookd.evaluation.agreement import agreement
from ookd.evaluation.run import evaluate
from ookd.files import write_file
from ookd.models import zoo
from ookd.models.preprocess import Preprocessing
from ookd.reports.agreement_page import write_agreement_page
from ookd.structures import Dataset
from ookd.tracking.predict import predict


def check(recipe: Recipe) -> None:
    """Raise before training if the model cannot be exported or nothing is held out."""
    if family_of_base(recipe.model).sees == "clips":
        raise UserError(f"--export: {recipe.name} trains a model of whole clips; only online models export")
    if recipe.data.val is None:
        raise UserError(
            "--export reports on videos that the model does not learn from: name some in data.val"
        )


def export_run(
    recipe: Recipe, run: Path, kind: Kind, on_frame: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Export the model of a finished run and write the report; its numbers."""
    assert recipe.data.val is not None
    names, family = zoo.names_of(str(run / MODEL)), family_of_base(recipe.model)
    validation = Validation(recipe, recipe.data.val, names)
    held_out = validation.truth
    constants: Any = family.tracker.changed(recipe.tracker)
    size = frame_size(held_out, constants.short_side, family.preprocessing)
    data, out = data_of_run(run), run / EXPORTED
    assert data is not None
    summary = export(run / MODEL, out, kind, "fp32", size, data=data, scenes=0, overwrite=True)
    student = load(out)
    results = predict(student.model, held_out, student.config, student.names, on_frame)
    found = agreement(evaluate(held_out, results))
    whole = validation.source
    labeller = labeller_of(whole.dataset) if isinstance(whole, DatasetClips) else ""
    facts = {
        "labels": data,
        "labelled_by": labeller,
        "export": {
            "kind": kind,
            "size": size,
            "bytes": sum(file.stat().st_size for file in out.iterdir()),
            **asdict(summary.parity),
        },
        **found.as_dict(),
    }
    write_file(run / f"{AGREEMENT}.json", json.dumps(facts, indent=2) + "\n")
    write_agreement_page(
        run / f"{AGREEMENT}.html",
        f"{run / MODEL}, exported, against the labels of {found.videos} videos of {data}"
        + (f", made by {labeller}." if labeller else "."),
        found,
        {
            "runtime": kind,
            "height x width": f"{size[0]}x{size[1]}",
            "MB": f"{facts['export']['bytes'] / 1e6:.1f}",
            "overlap with PyTorch's masks": f"{summary.parity.mask_iou:.4f}",
        },
        samples(validation.source, held_out, results),
    )
    return facts


def frame_size(videos: Dataset, short_side: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width for the model: most videos' shape at its short side, in multiples that it takes."""
    shape = Counter((video.height, video.width) for video in videos.videos).most_common(1)[0][0]
    if preprocessing.aspect == "square":
        shape = (1, 1)
    unit = preprocessing.multiple
    height, width = (max(unit, unit * round(short_side * side / min(shape) / unit)) for side in shape)
    return height, width
