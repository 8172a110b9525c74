"""From a recipe to the objects it names: data, model, training task, optimiser, schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn

from ookd.clips.loader import ClipLoader, Mixture, make_loader
from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
from ookd.clips.sampling import ClipSampler, DistillSampler, FrameSampler, PairSampler
from ookd.clips.sources import ClipDataset, ClipSource, DatasetClips, Stage, hide_labels
from ookd.clips.still_images import published_pair
from ookd.clips.transforms import (
    Augment,
    Part,
    RandomColour,
    RandomFlip,
    RandomRotation,
    RandomShortSide,
    published_video,
)
from ookd.config import Augment as AugmentSpec
from ookd.config import CompositeData, Data, DataSource, FolderData, Model, Optim, Pairs, Recipe, Within
from ookd.data.formats import load
from ookd.distill.labeller import videos_of
from ookd.distill.task import Distillation
from ookd.engine.muon import Muon, is_hidden
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_of, parse_config, presets
from ookd.models.protocols import Model as Network
from ookd.models.protocols import ModelConfig, StudentTask, TrainingTask
from ookd.worlds import World
from ookd.worlds.composite import Composite


def open_source(data: DataSource) -> ClipSource:
    """The videos a recipe names."""
    if isinstance(data, FolderData):
        read = videos_of if data.unlabelled else load
        return DatasetClips(read(Path(data.path), data.split), labelled_only=not data.unlabelled)
    if isinstance(data, CompositeData):
        return Composite(load(Path(data.path)), data.part, data.seed, data.videos, **data.change)
    return World(data.preset, split=data.split, seed=data.seed, videos=data.videos, **data.change)


def open_loader(recipe: Recipe, rank: int, world: int, multiple: int = 32) -> tuple[ClipLoader, list[str]]:
    """Training batches for this rank, and the names of the classes.

    Height and width of the frames are padded to multiples of `multiple`.
    """
    sources = [open_source(data) for data in recipe.data.train]
    names = class_names(recipe, sources)
    for data, source in zip(recipe.data.train, sources, strict=True):
        if not data.unlabelled and list(source.names) != names:
            raise UserError(f"the classes of {data} differ from those of the first training source")
    frames = recipe.data.frames
    sampler: FrameSampler
    if isinstance(frames, Pairs):
        sampler = PairSampler(frames.span)
    elif isinstance(frames, Within):
        sampler = DistillSampler(frames.length, frames.span, frames.pair_span)
    else:
        sampler = ClipSampler(frames.length, frames.span, frames.replace)
    seed = recipe.run.seed
    parts = [
        ClipDataset(source, sampler, stages(recipe.data, data, source), seed)
        for data, source in zip(recipe.data.train, sources, strict=True)
    ]
    ratios = [data.ratio for data in recipe.data.train]
    stream = parts[0] if len(parts) == 1 else Mixture(parts, ratios, seed)
    share, rest = divmod(recipe.data.batch, world * recipe.run.accumulate)
    if rest or not share:
        raise UserError(
            f"data.batch = {recipe.data.batch} must be a multiple of {world} processes x "
            f"{recipe.run.accumulate} accumulated micro-batches"
        )
    workers = recipe.data.workers
    loader = make_loader(stream, share, divisor=multiple, workers=workers, rank=rank, world=world)
    return loader, names


def class_names(recipe: Recipe, sources: list[ClipSource]) -> list[str]:
    """Those of the first source with labels, or of the first one if none has any."""
    hidden = [data.unlabelled for data in recipe.data.train]
    if any(hidden) and recipe.distill is None:
        raise UserError("data.train: from an unlabelled source only a teacher teaches: use ookd distill")
    names = list(sources[hidden.index(False) if False in hidden else 0].names)
    if not names:
        raise UserError("data.train: a source must tell what classes there are; none here has labels")
    return names


def stages(data: Data, given: DataSource, source: ClipSource) -> list[Stage]:
    """What happens to each clip of a source after it is read."""
    chain: list[Stage] = [hide_labels] if given.unlabelled else []
    if data.minor_paste is not None and not given.unlabelled:
        try:
            settings = MinorPasteConfig.model_validate(data.minor_paste)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"data.minor_paste.{'.'.join(map(str, first['loc']))}: {first['msg']}; "
                f"there are {', '.join(MinorPasteConfig.model_fields)}"
            ) from None
        chain.append(MinorPaste(source, settings))
    own = given.augment if isinstance(given, FolderData) else None
    return [*chain, augmentation(own or data.augment)]


def augmentation(spec: AugmentSpec) -> Augment:
    """The changes a recipe draws for each clip."""
    parts: list[Part] = []
    sides = tuple(spec.sides)
    if spec.crop == "video":
        parts.append(published_video(sides, spec.longest))
    elif spec.crop == "image":
        parts.append(published_pair(sides, spec.longest))
    elif sides:
        parts += [RandomShortSide(sides, spec.longest), RandomFlip(spec.flip)]
    else:
        parts.append(RandomFlip(spec.flip))
    if spec.degrees:
        parts.append(RandomRotation(spec.degrees))
    if spec.colour:
        parts.append(RandomColour())
    return Augment(*parts)


def base_config(spec: Model) -> ModelConfig:
    """The configuration that a recipe's model starts from: a preset's or a saved model's."""
    return presets().get(spec.base) or zoo.config_of(spec.base)


def make_model(spec: Model, classes: int) -> Network:
    """A preset with random weights or those of its pretrained backbone, or a saved model; then `start`."""
    base = base_config(spec)
    model = zoo.build(parse_config({**base.model_dump(), "classes": classes, **spec.change}))
    if spec.base not in presets():
        zoo.start_from(model, spec.base)
    elif spec.pretrained:
        model.load_pretrained()
    if spec.start is not None:
        zoo.start_from(model, spec.start)
    return model


def make_task(model: Network, recipe: Recipe, names: list[str]) -> TrainingTask:
    """The training module of the model's family, with the recipe's loss weights."""
    family = family_of(model)
    if unknown := recipe.loss.weights.keys() - family.loss_weights.keys():
        raise UserError(
            f"loss.weights: no term {', '.join(sorted(unknown))}; there are {', '.join(family.loss_weights)}"
        )
    task = family.task(model, {**family.loss_weights, **recipe.loss.weights})
    if recipe.distill is None:
        return task
    if not isinstance(task, StudentTask):
        raise UserError(f"distill: a {family.name} model sees whole clips; a student sees single frames")
    return Distillation(task, recipe.distill, names, recipe.data)


def make_optimizer(task: TrainingTask, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW in groups: backbone or not, decayed or not; with muon the matrices outside the backbone apart."""
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
    """The learning rate's factor at each step, counted from 0."""

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
