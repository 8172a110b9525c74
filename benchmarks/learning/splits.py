"""The splits of an experiment: train, tune, val and test, each used for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ookd.clips.opening import open_source
from ookd.clips.sources import ClipSource, DatasetClips
from ookd.config import DataSource, FolderData, WorldData
from ookd.errors import UserError
from ookd.structures import Dataset

SPLITS = ("train", "tune", "val", "test")


@dataclass
class Split:
    """Videos with their annotations, opened when they are first needed."""

    data: DataSource

    @cached_property
    def source(self) -> ClipSource:
        return open_source(self.data)

    @cached_property
    def truth(self) -> Dataset:
        if isinstance(self.source, DatasetClips):
            return self.source.dataset
        dataset: Dataset = self.source.dataset()  # type: ignore[attr-defined]
        return dataset

    @cached_property
    def counts(self) -> dict[str, int]:
        """Tracks of each class."""
        return dict(zip(self.source.names, self.source.class_counts(), strict=True))


def of_world(preset: str, split: str, videos: int, seed: int, changes: Sequence[str]) -> WorldData:
    """A split of a preset world with some of its settings changed."""
    change: dict[str, Any] = {}
    for text in changes:
        key, found, value = text.partition("=")
        if not found:
            raise UserError(f"--world-change {text}: write it as key=value, such as size=[0.2, 0.4]")
        change[key] = yaml.safe_load(value)
    named = {"preset": preset, "split": split, "videos": videos, "seed": seed}
    return WorldData.model_validate({"kind": "world", **named, "change": change})


def few_labels(
    train: DataSource, labelled: int | None, more: Sequence[str]
) -> tuple[DataSource, list[DataSource]]:
    """The source with labels, and those without, which only students with a teacher see.

    The first `labelled` videos of `train` keep their labels; all of them are shown without.
    """
    hidden = [data_source(text) for text in more]
    if labelled is not None:
        if isinstance(train, FolderData):
            raise UserError(
                "--labelled: of a folder all videos keep their labels; add others with --unlabelled"
            )
        hidden.insert(0, train)
        train = train.model_copy(update={"videos": labelled})
    return train, [source.model_copy(update={"unlabelled": True}) for source in hidden]


def data_source(text: str) -> DataSource:
    """A folder or file of annotated videos, or any source as recipes write it: `{kind: composite, ...}`."""
    if not text.lstrip().startswith("{"):
        return FolderData(kind="folder", path=text)
    try:
        source: DataSource = TypeAdapter(DataSource).validate_python(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as error:
        raise UserError(f"{text}: not a data source: {' '.join(str(error).split())}") from None
    return source
