"""Open the data that a recipe names: videos, and batches of training clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from ookd.clips.loader import ClipLoader, Mixture, make_loader
from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
from ookd.clips.sampling import ClipSampler, DistillSampler, FrameSampler, PairSampler
from ookd.clips.sources import ClipDataset, ClipSource, ClipStage, DatasetClips, hide_labels
from ookd.clips.transforms import (
    Augmentation,
    RandomColour,
    RandomFlip,
    RandomRotation,
    RandomShortSide,
    Transform,
    idol_image_augment,
    idol_video_augment,
)
from ookd.config import Augment, CompositeData, Data, DataSource, FolderData, PairInClip, Pairs, Recipe
from ookd.data.formats import load
from ookd.data.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ookd.data.video import open_source as open_video
from ookd.errors import UserError
from ookd.structures import Dataset, Video
from ookd.worlds import World
from ookd.worlds.composite import Composite

HELD_OUT = 10  # one of so many videos is held out


def open_source(data: DataSource) -> ClipSource:
    """The videos a recipe names."""
    if isinstance(data, FolderData):
        read = videos_of if data.unlabelled else load
        dataset = part_of(read(Path(data.path), data.split), data.part)
        return DatasetClips(dataset, not data.unlabelled, data.sure, data.weigh)
    if isinstance(data, CompositeData):
        return Composite(load(Path(data.path)), data.part, data.seed, data.videos, **data.change)
    return World(data.preset, split=data.split, seed=data.seed, videos=data.videos, **data.change)


def part_of(dataset: Dataset, part: str) -> Dataset:
    """The videos of a `part` of `FolderData`. Videos are held out of those with labels, if there are any."""
    if part == "all":
        return dataset
    labelled = [video for video in dataset.videos if any(not track.iscrowd for track in video.tracks)]
    held_out = {video.id for video in (labelled or dataset.videos)[::HELD_OUT]}
    videos = [video for video in dataset.videos if (video.id in held_out) == (part == "held-out")]
    if len(labelled) == 1:
        raise UserError(f"{dataset.name}: one video with labels is too few to hold one out")
    return replace(dataset, videos=videos)


def videos_of(path: Path, split: str | None = None) -> Dataset:
    """The videos of a data set, without its labels, or the video files and image folders in a folder."""
    if path.is_dir() and (found := list(_videos_in(path))):
        return Dataset([], found, path, path.name)
    dataset = load(path, split)
    for video in dataset.videos:
        video.tracks = []
    return dataset


def _videos_in(folder: Path) -> Iterator[Video]:
    """Videos in a folder without annotations."""
    if any(folder.glob("*.json")) or any(folder.glob("*.yaml")):
        return
    number = 0
    for item in sorted(folder.iterdir()):
        images = sorted(item.iterdir()) if item.is_dir() else []
        if item.suffix.lower() in VIDEO_SUFFIXES and item.is_file():
            with open_video(item) as source:
                length = source.length or sum(1 for _ in source)
                names = [f"{item.name}/{frame}" for frame in range(length)]
                size, more = (source.width, source.height), {"fps": round(source.fps, 3)}
        elif images and all(image.suffix.lower() in IMAGE_SUFFIXES for image in images):
            with open_video(item) as source:
                names = [f"{item.name}/{image.name}" for image in images]
                size, more = (source.width, source.height), {}
        else:
            continue
        number += 1
        yield Video(number, *size, names, extra={"name": item.stem, **more})


def open_loader(recipe: Recipe, rank: int, world: int, multiple: int = 32) -> tuple[ClipLoader, list[str]]:
    """Training batches for this rank, and the class names.

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
    """The class names of the first source with labels, or of the first source if none has labels."""
    hidden = [data.unlabelled for data in recipe.data.train]
    if any(hidden) and recipe.distill is None:
        raise UserError("data.train: an unlabelled source needs a teacher: use ookd distill")
    names = list(sources[hidden.index(False) if False in hidden else 0].names)
    if not names:
        raise UserError("data.train: no source has labels, so the classes are unknown")
    return names


def stages(data: Data, given: DataSource, source: ClipSource) -> list[ClipStage]:
    """The stages through which each clip of a source goes after it is read."""
    chain: list[ClipStage] = [hide_labels] if given.unlabelled else []
    if data.minor_paste is not None and not given.unlabelled:
        try:
            settings = MinorPasteConfig.model_validate(data.minor_paste)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"data.minor_paste.{'.'.join(map(str, first['loc']))}: {first['msg']}; "
                f"choose from {', '.join(MinorPasteConfig.model_fields)}"
            ) from None
        chain.append(MinorPaste(source, settings))
    own = given.augment if isinstance(given, FolderData) else None
    return [*chain, augmentation(own or data.augment)]


def augmentation(spec: Augment) -> Augmentation:
    """The augmentation of a recipe."""
    transforms: list[Transform] = []
    sides = tuple(spec.sides)
    if spec.crop == "video":
        transforms.append(idol_video_augment(sides, spec.longest))
    elif spec.crop == "image":
        transforms.append(idol_image_augment(sides, spec.longest))
    elif sides:
        transforms += [RandomShortSide(sides, spec.longest), RandomFlip(spec.flip)]
    else:
        transforms.append(RandomFlip(spec.flip))
    if spec.degrees:
        transforms.append(RandomRotation(spec.degrees))
    if spec.colour:
        transforms.append(RandomColour())
    return Augmentation(*transforms)
