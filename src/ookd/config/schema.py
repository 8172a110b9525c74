"""What a recipe may say: every key, its range, and a line on what it is for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augment(Strict):
    """Drawn once for a clip and applied to all its frames, except for the published crops."""

    flip: Fraction = Field(0.5, description="probability of mirroring")
    sides: list[int] = Field([], description="short sides to draw from; none: frames keep their size")
    longest: int = Field(1333, ge=32, description="largest long side")
    crop: Literal["none", "video", "image"] = Field(
        "none",
        description="published random crops (they need sides): each frame its own window, or, for clips that "
        "repeat an image, each copy its own flip, crop and size",
    )
    colour: bool = Field(False, description="brightness, contrast, saturation and hue")
    degrees: float = Field(0.0, ge=0, le=45, description="largest rotation")

    @model_validator(mode="after")
    def _sides_for_crops(self) -> Augment:
        if self.crop != "none" and not self.sides:
            raise ValueError(f"crop: {self.crop} needs sides, the short sides to draw from")
        return self


class WorldData(Strict):
    """A synthetic world, drawn as it is read."""

    kind: Literal["world"]
    preset: str = Field("ytvis-like", description="preset world")
    split: Literal["train", "tune", "val", "test"] = Field("train", description="which of the disjoint parts")
    videos: int = Field(700, ge=1, description="how many videos")
    seed: int = Field(0, ge=0, description="seed of the world")
    change: dict[str, Any] = Field({}, description="world settings that differ from the preset")
    unlabelled: bool = Field(False, description="its labels are hidden: only a teacher teaches from it")
    ratio: float = Field(1.0, gt=0, description="share of training clips, relative to the other sources")


class FolderData(Strict):
    """Annotated videos on disk, in any format that `ookd data check` knows."""

    kind: Literal["folder"]
    path: str = Field(description="folder, annotation file or dataset.yaml")
    split: str | None = Field(None, description="which set, where the path holds several")
    unlabelled: bool = Field(False, description="its labels are not used: only a teacher teaches from it")
    augment: Augment | None = Field(None, description="changes for this source instead of data.augment")
    ratio: float = Field(1.0, gt=0, description="share of training clips, relative to the other sources")


class CompositeData(Strict):
    """Real tracks of a data set pasted over its other videos, as they are read."""

    kind: Literal["composite"]
    path: str = Field(description="folder, annotation file or dataset.yaml")
    part: Literal["all", "train", "tune"] = Field("all", description="which of its videos are used")
    videos: int = Field(500, ge=1, description="how many composites")
    seed: int = Field(0, ge=0, description="seed of the composites")
    change: dict[str, Any] = Field({}, description="settings that differ from the default")
    unlabelled: bool = Field(False, description="its labels are hidden: only a teacher teaches from it")
    ratio: float = Field(1.0, gt=0, description="share of training clips, relative to the other sources")


DataSource = Annotated[WorldData | FolderData | CompositeData, Field(discriminator="kind")]


class Pairs(Strict):
    """A key frame and a reference frame near it."""

    kind: Literal["pair"]
    span: int = Field(10, ge=1, description="largest distance of the two frames")


class Clips(Strict):
    """T frames around a random one."""

    kind: Literal["clip"]
    length: int = Field(5, ge=1, description="frames in a clip")
    span: int = Field(10, ge=1, description="largest distance from the first frame drawn")
    replace: bool = Field(False, description="draw the frames independently, as SeqFormer does")


class Within(Strict):
    """A student's pair of frames inside a long clip for the teacher."""

    kind: Literal["distill"]
    length: int = Field(8, ge=2, description="frames of the teacher's clip")
    span: int = Field(40, ge=1, description="largest distance of the clip's frames from the pair")
    pair_span: int = Field(10, ge=1, description="largest distance of the pair's frames")


class Data(Strict):
    train: list[DataSource] = Field(min_length=1, description="what is learned from")
    tune: DataSource | None = Field(None, description="where tracker constants are chosen")
    val: DataSource | None = Field(None, description="what periodic validation measures")
    frames: Annotated[Pairs | Clips | Within, Field(discriminator="kind")] = Field(
        Pairs(kind="pair"), description="frames of a training sample"
    )
    minor_paste: dict[str, Any] | None = Field(
        None,
        description="settings of Minor-Paste that differ from the default, {} for none; null: no pasting",
    )
    augment: Augment = Field(Augment(), description="changes drawn by chance")
    batch: int = Field(4, ge=1, description="clips in a step, over all ranks and accumulated steps")
    workers: int = Field(2, ge=0, description="loader processes of each rank; 0 loads in the trainer itself")


class Model(Strict):
    base: str = Field("nano", description="preset, model folder or hub id to start from")
    change: dict[str, Any] = Field({}, description="model settings that differ from the base")
    start: str | None = Field(None, description="model folder whose weights are taken where they fit")
    pretrained: bool = Field(True, description="start a preset from ImageNet weights of its trunk")


class Loss(Strict):
    weights: dict[str, float] = Field({}, description="loss weights that differ from the method's own")


class Optim(Strict):
    kind: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: matrices outside the trunk step along orthogonal ones, the rest as adamw"
    )
    lr: float = Field(1e-3, gt=0, description="learning rate")
    trunk: float = Field(0.2, ge=0, description="learning rate of the trunk, relative to lr")
    weight_decay: float = Field(0.02, ge=0, description="decoupled weight decay")
    decay_all: bool = Field(
        False, description="decay biases, norms and codes too, as the published recipes do"
    )
    clip: float = Field(20.0, gt=0, description="largest norm of the gradient")
    schedule: Literal["linear", "cosine", "step"] = Field("linear", description="how the rate falls")
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    hold: Fraction = Field(0.6, description="share of the run before linear or cosine decay begins")
    milestones: list[int] = Field([], description="steps after which the step schedule multiplies by gamma")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of the step schedule")


class Run(Strict):
    steps: int = Field(2400, ge=1, description="optimiser steps")
    seed: int = Field(0, ge=0, description="seed of weights, data order and augmentation")
    precision: Literal["fp32", "bf16", "fp16"] = Field("bf16", description="precision of matrix products")
    channels_last: bool = Field(True, description="memory layout that convolutions like")
    accumulate: int = Field(1, ge=1, description="micro-batches of a step")
    recompute: bool = Field(
        False, description="gradient checkpointing: compute layers again for their gradient, to save memory"
    )
    shard: bool = Field(
        False, description="FSDP2: share out weights, gradients and optimiser state over the processes"
    )
    frozen_norms: bool = Field(
        True, description="batch norms keep the statistics and factors they start with"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of averaged weights; 0 keeps none")
    compile: bool = Field(False, description="torch.compile the training step")
    threads: int | None = Field(None, ge=1, description="CPU threads of the trainer; all if not given")
    log_every: int = Field(20, ge=1, description="steps between lines of metrics")
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints that are kept")
    validate_every: int | None = Field(
        None, ge=1, description="steps between validations on data.val; null: only at the end"
    )
    val_videos: int | None = Field(
        None, ge=1, description="validate on the first so many videos of data.val; null: on all"
    )
    trackers: list[Literal["tensorboard", "wandb", "trackio", "mlflow"]] = Field(
        [], description="where metrics go besides metrics.jsonl"
    )
    patience: int = Field(10, ge=1, description="steps in a row that may be skipped for a loss not finite")

    @model_validator(mode="after")
    def _shard_alone(self) -> Run:
        if self.shard and (self.channels_last or self.compile or self.precision == "fp16"):
            raise ValueError("shard goes with neither channels_last, compile nor precision fp16")
        return self


class Filter(Strict):
    """Which teacher queries carry knowledge about exactly one instance."""

    kind: Literal["exact", "sure", "none"] = Field("exact", description="by labels, by score, or not at all")
    min_iou: Fraction = Field(0.5, description="exact: least overlap of the teacher's tube with the true one")
    min_score: Fraction = Field(0.3, description="exact and sure: least class score")
    tube_nms: Fraction = Field(0.6, description="sure: overlap above which the less sure of two goes")
    gamma: float = Field(0.5, ge=0, description="trust in a query is (score x overlap) to this power")


class Signal(Strict):
    """One kind of knowledge."""

    weight: float = Field(0.0, ge=0, description="0 leaves it out")
    warmup: int = Field(0, ge=0, description="steps over which it rises")
    until: int | None = Field(None, ge=1, description="step at which it is gone; none: it stays")
    decay: int = Field(1, ge=1, description="steps over which it falls before `until`")


class Distill(Strict):
    teacher: str = Field("", description="model folder of an offline teacher")
    cache: str | None = Field(
        None, description="folder with what the teacher knows of the videos; none: it is asked in every step"
    )
    filter: Filter = Field(Filter(), description="which teacher queries count")
    associate: Literal["labels", "prediction"] = Field("labels", description="how a pair is found")
    pair_iou: Fraction = Field(0.5, description="by prediction: least overlap of a pair in the frame")
    temperature: float = Field(20.0, gt=0, description="cosines are multiplied by it, as in the tracker")
    signals: dict[str, Signal] = Field(
        {"relation": Signal(weight=1.0)}, description="what is transferred, and how much it weighs"
    )
    control: Literal["shuffled", "classes", "instances"] | None = Field(
        None,
        description="what stands in for the teacher's features, for comparison: another instance's, the mean "
        "of the class, or the student's own mean of the instance",
    )


class Recipe(Strict):
    name: str = Field(description="what the run is called")
    about: str = Field("", description="what it is for")
    data: Data
    model: Model = Model()
    loss: Loss = Loss()
    optim: Optim = Optim()
    run: Run = Run()
    tracker: dict[str, Any] = Field({}, description="tracker constants that differ from the family's")
    distill: Distill | None = Field(None, description="learn from an offline teacher")

    @model_validator(mode="after")
    def _whole_matrices(self) -> Recipe:
        if self.run.shard and self.optim.kind == "muon":
            raise ValueError("optim.kind muon needs whole matrices: with run.shard use adamw")
        return self
