"""From what a recipe says about its data to the videos, and to batches of training clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

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
from ookd.config import CompositeData, Data, DataSource, FolderData, PairInClip, Pairs, Recipe
from ookd.data.formats import load
from ookd.data.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ookd.data.video import open_source as open_video
from ookd.errors import UserError
from ookd.structures import Dataset, Video
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


def videos_of(path: Path, split: str | None = None) -> Dataset:
    """The videos of a data set, whatever it says of them, or those in a folder: video files, and folders of
    images.
    """
    if path.is_dir() and (found := list(_loose(path))):
        return Dataset([], found, path, path.name)
    dataset = load(path, split)
    for video in dataset.videos:
        video.tracks = []
    return dataset


def _loose(folder: Path) -> Iterator[Video]:
    """Videos that lie in a folder without annotations."""
    if any(folder.glob("*.json")) or any(folder.glob("*.yaml")):
        return
    number = 0
    for item in sorted(folder.iterdir()):
        images = sorted(item.iterdir()) if item.is_dir() else []
        if item.suffix.lower() in VIDEO_SUFFIXES and item.is_file():
            with open_video(item) as source:
                length = source.length or sum(1 for _ in source)
                names = [f"{item.name}/{frame}" for frame in range(length)]
                size = source.width, source.height
        elif images and all(image.suffix.lower() in IMAGE_SUFFIXES for image in images):
            with open_video(item) as source:
                names, size = [f"{item.name}/{image.name}" for image in images], (source.width, source.height)
        else:
            continue
        number += 1
        yield Video(number, *size, names, extra={"name": item.stem})


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
    elif isinstance(frames, PairInClip):
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
