"""From a recipe to its model, training task, optimiser and learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from ookd.config import FolderData, Model, Optim, Recipe
from ookd.config.tracker import TrackerConfig
from ookd.distill.task import Distillation
from ookd.engine.muon import Muon, is_hidden
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_named, family_of, parse_config, preset, presets
from ookd.models.family import Family
from ookd.models.protocols import Network, StudentTask, TrainingTask
from ookd.tracking.associators import make_associator


def family_of_base(spec: Model) -> Family:
    """The family of a recipe's model, before the model is built."""
    config = presets().get(spec.base) or zoo.config_of(spec.base)
    return family_named(config.family)


def check_tracker(recipe: Recipe) -> None:
    """Raise for tracker constants that would make a model which cannot be loaded."""
    try:
        constants = family_of_base(recipe.model).tracker.changed(recipe.tracker)
        if isinstance(constants, TrackerConfig):
            make_associator(constants)
    except UserError as error:
        raise UserError(f"recipe {recipe.name}: {error}") from None


def make_model(spec: Model, classes: int) -> Network:
    """A preset, with random weights or a pretrained backbone, or a saved model; then `start`."""
    if spec.base in presets():
        model = zoo.build(preset(spec.base, classes=classes, **spec.change))
        if spec.pretrained:
            model.load_pretrained()
    else:
        saved = zoo.load(spec.base).model.config
        model = zoo.build(parse_config({**saved.model_dump(), "classes": classes, **spec.change}))
        zoo.start_from(model, spec.base)
    if spec.start is not None:
        zoo.start_from(model, spec.start)
    return model


@cache
def provenance(base: str, start: str | None) -> tuple[str, str]:
    """The licence and the hub id of the weights that a model starts from; empty for those of our own."""
    sources = [] if base in presets() else [base]
    sources += [] if start is None else [start]
    found = [zoo.notes_of(source) for source in sources]
    licences, ids = (
        dict.fromkeys(notes[name] for notes in found if name in notes) for name in ("licence", "source")
    )
    return ", ".join(licences), ", ".join(ids)


def check_classes(base: str, names: list[str]) -> None:
    """Raise unless data has the classes of a model whose classes are not trained."""
    known = zoo.names_of(base)
    if names != known:
        raise UserError(
            f"data: the {len(known)} classes of {base} are not trained, so the data must have them, in this "
            f"order: {', '.join(known)}; it has {', '.join(names)}"
        )


def make_task(model: Network, recipe: Recipe, names: list[str]) -> TrainingTask:
    """The training module of the model's family, with the loss weights of the recipe."""
    family = family_of(model)
    if unknown := recipe.loss.weights.keys() - family.loss_weights.keys():
        raise UserError(
            f"loss.weights: no term {', '.join(sorted(unknown))}; there are {', '.join(family.loss_weights)}"
        )
    if model.fixed_classes and recipe.model.base not in presets():
        check_classes(recipe.model.base, names)
    task = family.task(model, {**family.loss_weights, **recipe.loss.weights})
    weighed = any(isinstance(source, FolderData) and source.weigh for source in recipe.data.train)
    if weighed and not task.weighs_frames:
        raise UserError("data.train: weigh is for training frame networks of the compact family, as in nano")
    if recipe.distill is None:
        return task
    if not isinstance(task, StudentTask):
        raise UserError(f"distill: a {family.name} model sees whole clips; a student sees single frames")
    return Distillation(task, recipe.distill, names, recipe.data)


def make_optimizer(task: TrainingTask, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW in groups, by backbone and weight decay. With muon, hidden matrices have their own groups."""
    optim = recipe.optim
    prefix = family_of(task.model).backbone
    backbone = {id(p) for name, p in task.model.named_parameters() if name.startswith(prefix)}
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for parameter in task.parameters():
        if not parameter.requires_grad:
            continue
        pretrained = id(parameter) in backbone
        decayed = optim.decay_all or parameter.dim() > 1
        lr = optim.lr * optim.trunk if pretrained else optim.lr
        turned = optim.kind == "muon" and not pretrained and is_hidden(parameter)
        groups.setdefault((lr, optim.weight_decay if decayed else 0.0, turned), []).append(parameter)
    listed = [
        {"params": p, "lr": lr, "weight_decay": decay, "orthogonal": turned}
        for (lr, decay, turned), p in groups.items()
    ]
    if optim.kind == "adamw":
        return torch.optim.AdamW(listed, lr=optim.lr, foreach=True)
    dtype = torch.float32 if recipe.run.precision == "fp32" else torch.bfloat16
    return Muon(listed, optim.lr, dtype, foreach=True)


def rate(optim: Optim, steps: int) -> Callable[[int], float]:
    """The factor of the learning rate at each step, counted from 0."""

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, optim.warmup))
        if optim.schedule == "step":
            return warm * float(optim.gamma ** sum(step >= milestone for milestone in optim.milestones))
        begin = optim.hold * steps
        passed = max(0.0, step - begin) / max(1.0, steps - begin)
        if optim.schedule == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))
        return warm * max(0.0, 1 - passed)

    return factor
