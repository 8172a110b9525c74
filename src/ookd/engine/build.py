"""From a recipe to its model, training task, optimiser and learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn

from ookd.config import Model, Optim, Recipe
from ookd.distill.task import Distillation
from ookd.engine.muon import Muon, is_hidden
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.presets import PRESETS, preset

# family -> the module that trains it, `forward(batch) -> named terms` and `.weights`
TASKS = {
    "compact": "ookd.models.compact.training:CompactTraining",
    "compact-clip": "ookd.models.compact.clip_training:CompactClipTraining",
    "idol": "ookd.models.idol.training:IdolTraining",
    "seqformer": "ookd.models.seqformer.training:SeqFormerTraining",
}


def make_model(spec: Model, classes: int) -> nn.Module:
    """A preset, with random weights or a pretrained trunk, or a saved model; then the weights of `start`."""
    if spec.base in PRESETS:
        model = zoo.build(preset(spec.base, classes=classes, **spec.change))
        load_pretrained: Any = getattr(model, "load_pretrained", None)
        if spec.pretrained and load_pretrained is not None:
            load_pretrained()
    else:
        saved: Any = zoo.load(spec.base).model
        fields = {**saved.config.model_dump(), "classes": classes, **spec.change}
        model = zoo.build(zoo.parse_config(fields))
        zoo.start_from(model, spec.base)
    if spec.start is not None:
        zoo.start_from(model, spec.start)
    return model


def make_task(model: nn.Module, recipe: Recipe, names: list[str]) -> nn.Module:
    """The training module of the model's family, with the loss weights of the recipe."""
    config: Any = model.config
    place, _, name = TASKS[config.family].partition(":")
    module = import_module(place)
    if unknown := recipe.loss.weights.keys() - module.WEIGHTS.keys():
        raise UserError(
            f"loss.weights: no term {', '.join(sorted(unknown))}; there are {', '.join(module.WEIGHTS)}"
        )
    task: nn.Module = getattr(module, name)(model, {**module.WEIGHTS, **recipe.loss.weights})
    if recipe.distill is None:
        return task
    if not hasattr(task, "learn"):
        raise UserError(f"distill: a {config.family} model sees whole clips; a student sees single frames")
    return Distillation(task, recipe.distill, names, recipe.data)


def make_optimizer(task: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW in groups, by trunk and weight decay. With muon, hidden matrices have their own groups."""
    optim = recipe.optim
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            continue
        pretrained = ".trunk." in name or ".backbone." in name
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
