"""The keys of a recipe, with their ranges and a line of explanation each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augment(Strict):
    """Random changes, drawn once per clip and applied to all its frames, except the published crops."""

    flip: Fraction = Field(0.5, description="probability of a horizontal flip")
    sides: list[Annotated[int, Field(ge=1, le=2**14)]] = Field(
        [], description="short sides to draw from; empty: frames keep their size"
    )
    longest: int = Field(1333, ge=32, description="largest long side after resizing")
    crop: Literal["none", "video", "image"] = Field(
        "none",
        description="random crops as published, which need sides; video: a window for each frame; image: for "
        "clips that repeat an image, a flip, crop and size for each copy",
    )
    colour: bool = Field(False, description="vary brightness, contrast, saturation and hue")
    degrees: float = Field(0.0, ge=0, le=45, description="largest rotation, in degrees")

    @model_validator(mode="after")
    def _sides_for_crops(self) -> Augment:
        if self.crop != "none" and not self.sides:
            raise ValueError(f"crop {self.crop} needs sides, the short sides to draw from")
        return self


class WorldData(Strict):
    """A synthetic world, drawn on demand."""

    kind: Literal["world"]
    preset: str = Field("ytvis-like", description="name of a preset world")
    split: Literal["train", "tune", "val", "test"] = Field(
        "train", description="part of the world; parts share no video"
    )
    videos: int = Field(700, ge=1, description="number of videos")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the world")
    change: dict[str, Any] = Field({}, description="world settings that differ from the preset's")
    unlabelled: bool = Field(False, description="hide its labels, so that only a teacher teaches from it")
    ratio: float = Field(1.0, gt=0, description="share of training clips, relative to other sources")


class FolderData(Strict):
    """Videos on disk, in any format that `ookd data check` reads."""

    kind: Literal["folder"]
    path: str = Field(description="folder, annotation file or dataset.yaml")
    split: str | None = Field(None, description="which split, if the path holds several")
    part: Literal["all", "train", "held-out"] = Field(
        "all", description="all its videos; or every tenth (held-out), or the others (train)"
    )
    unlabelled: bool = Field(False, description="ignore its labels, so that only a teacher teaches from it")
    sure: float = Field(
        0.5,
        ge=0,
        le=1,
        description="in a model's labels, frames below this share of their track's confidence are ignored",
    )
    weigh: bool = Field(
        False,
        description="weigh the mask and class losses of an instance in a frame by the confidence that a "
        "model's labels state there (compact family)",
    )
    augment: Augment | None = Field(None, description="augmentation of this source, in place of data.augment")
    ratio: float = Field(1.0, gt=0, description="share of training clips, relative to other sources")


class CompositeData(Strict):
    """Real tracks of a dataset pasted over its other videos, on demand."""

    kind: Literal["composite"]
    path: str = Field(description="folder, annotation file or dataset.yaml")
    part: Literal["all", "train", "tune"] = Field("all", description="which of its videos to use")
    videos: int = Field(500, ge=1, description="number of composites")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the composition")
    change: dict[str, Any] = Field({}, description="settings that differ from the defaults")
    unlabelled: bool = Field(False, description="hide its labels, so that only a teacher teaches from it")
    ratio: float = Field(1.0, gt=0, description="share of training clips, relative to other sources")


DataSource = Annotated[WorldData | FolderData | CompositeData, Field(discriminator="kind")]


class Pairs(Strict):
    """A key frame and a reference frame near it."""

    kind: Literal["pair"]
    span: int = Field(10, ge=1, description="largest distance between the two frames")


class Clips(Strict):
    """Some frames around a random one."""

    kind: Literal["clip"]
    length: int = Field(5, ge=1, description="frames per clip")
    span: int = Field(10, ge=1, description="largest distance of a frame from the first one drawn")
    replace: bool = Field(False, description="draw frames that may repeat, as SeqFormer does")


class PairInClip(Strict):
    """A student's pair of frames inside a long clip for the teacher."""

    kind: Literal["distill"]
    length: int = Field(8, ge=2, description="frames of the teacher's clip, the pair included")
    span: int = Field(40, ge=1, description="largest distance of the other frames from the pair")
    pair_span: int = Field(10, ge=1, description="largest distance between the frames of the pair")


class Data(Strict):
    train: list[DataSource] = Field(min_length=1, description="sources of training clips")
    tune: DataSource | None = Field(None, description="videos on which `ookd tune` chooses tracker constants")
    val: DataSource | None = Field(None, description="videos for validation")
    frames: Annotated[Pairs | Clips | PairInClip, Field(discriminator="kind")] = Field(
        Pairs(kind="pair"), description="which frames make a training clip"
    )
    minor_paste: dict[str, Any] | None = Field(
        None,
        description="Minor-Paste settings that differ from the defaults; {}: the defaults; null: no pasting",
    )
    augment: Augment = Field(Augment(), description="random changes of clips")
    batch: int = Field(4, ge=1, description="clips per step, over all processes and micro-batches")
    workers: int = Field(2, ge=0, le=1024, description="loader processes per process; 0: no extra ones")


class Model(Strict):
    base: str = Field("nano", description="preset, model folder or hub id")
    change: dict[str, Any] = Field({}, description="model settings that differ from the base's")
    start: str | None = Field(
        None, description="model folder or hub id whose weights are used where they fit"
    )
    pretrained: bool = Field(True, description="start the backbone of a preset from ImageNet weights")


class Loss(Strict):
    weights: dict[str, float] = Field({}, description="loss weights that differ from the model's defaults")


class Optim(Strict):
    kind: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon: orthogonalised steps for matrices outside the backbone, adamw for others",
    )
    lr: float = Field(1e-3, gt=0, description="learning rate")
    trunk: float = Field(0.2, ge=0, description="learning rate of the backbone, relative to lr")
    weight_decay: float = Field(0.02, ge=0, description="decoupled weight decay")
    decay_all: bool = Field(
        False, description="decay biases, norms and position codes too, as the published recipes do"
    )
    clip: float = Field(20.0, gt=0, description="norm to which gradients are clipped")
    schedule: Literal["linear", "cosine", "step"] = Field("linear", description="how the learning rate falls")
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    hold: Fraction = Field(0.6, description="share of the run before linear or cosine decay starts")
    milestones: list[int] = Field([], description="steps after which the step schedule multiplies by gamma")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of the step schedule")


class Run(Strict):
    steps: int = Field(2400, ge=1, description="optimiser steps")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of initial weights, data order and augmentation")
    precision: Literal["fp32", "bf16", "fp16"] = Field("bf16", description="precision of matrix products")
    channels_last: bool = Field(True, description="memory layout that speeds up convolutions")
    accumulate: int = Field(1, ge=1, description="micro-batches per step")
    recompute: bool = Field(
        False, description="gradient checkpointing: recompute layers in the backward pass to save memory"
    )
    shard: bool = Field(
        False, description="FSDP2: split weights, gradients and optimiser state over the processes"
    )
    frozen_norms: bool = Field(True, description="keep statistics and scales of batch norms as they start")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the weight average; 0: no average")
    compile: bool = Field(False, description="use torch.compile for the training step")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; null: all")
    log_every: int = Field(20, ge=1, description="steps between metric lines")
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="number of checkpoints to keep")
    validate_every: int | None = Field(
        None, ge=1, description="steps between validations on data.val; null: at the end only"
    )
    val_videos: int | None = Field(
        None, ge=1, description="number of videos of data.val to validate on; null: all"
    )
    trackers: list[Literal["tensorboard", "wandb", "trackio", "mlflow"]] = Field(
        [], description="experiment trackers that get the metrics, besides metrics.jsonl"
    )
    patience: int = Field(10, ge=1, description="steps in a row to skip with a non-finite loss")

    @model_validator(mode="after")
    def _shard_alone(self) -> Run:
        if self.shard and (self.channels_last or self.compile or self.precision == "fp16"):
            raise ValueError("shard does not work with channels_last, compile or precision fp16")
        return self


class Filter(Strict):
    """Which teacher queries carry knowledge about exactly one instance."""

    kind: Literal["exact", "sure", "none"] = Field("exact", description="by labels, by score, or keep all")
    min_iou: Fraction = Field(0.5, description="exact: least IoU of the teacher's tube with the true one")
    min_frame_iou: Fraction = Field(
        0.5, description="exact: least IoU of the teacher's mask with the true one in a frame that is taught"
    )
    min_score: Fraction = Field(0.3, description="exact, sure: least class score")
    tube_nms: Fraction = Field(0.6, description="sure: IoU above which the less sure of two is dropped")
    gamma: float = Field(0.5, ge=0, description="a kept query is weighted by (score x IoU) to this power")


class Signal(Strict):
    """How much one kind of knowledge counts, and when."""

    weight: float = Field(0.0, ge=0, description="weight of the loss; 0 turns the signal off")
    warmup: int = Field(0, ge=0, description="steps over which the weight rises")
    until: int | None = Field(None, ge=1, description="step at which the weight reaches 0; null: it stays")
    decay: int = Field(1, ge=1, description="steps before `until` over which the weight falls")


class Distill(Strict):
    teacher: str = Field("", description="name, folder or hub id of an offline teacher")
    cache: str | None = Field(
        None, description="folder of cached teacher answers; null: the teacher runs in every step"
    )
    teacher_side: int | None = Field(
        None,
        ge=32,
        description="short side of the frames that the teacher sees; null: as the student sees them",
    )
    rename: dict[str, str] = Field(
        {}, description="the teacher's names of classes, and what the student calls them: {sedan: car}"
    )
    filter: Filter = Field(Filter(), description="which teacher queries are used")
    associate: Literal["labels", "prediction"] = Field("labels", description="how pairs are found")
    pair_iou: Fraction = Field(0.5, description="prediction: least mask IoU of a pair in a frame")
    temperature: float = Field(20.0, gt=0, description="factor of cosine similarities, as in the tracker")
    signals: dict[str, Signal] = Field({"relation": Signal(weight=1.0)}, description="what is transferred")
    control: Literal["shuffled", "classes", "instances"] | None = Field(
        None,
        description="for comparison, what replaces the teacher's features: another instance's, the mean of "
        "the class, or the student's own mean of the instance",
    )


class Recipe(Strict):
    name: str = Field(description="name of the run")
    about: str = Field("", description="what the recipe is for")
    data: Data
    model: Model = Model()
    loss: Loss = Loss()
    optim: Optim = Optim()
    run: Run = Run()
    tracker: dict[str, Any] = Field({}, description="tracker constants that differ from the family's")
    distill: Distill | None = Field(None, description="distillation from an offline teacher")

    @model_validator(mode="after")
    def _whole_matrices(self) -> Recipe:
        if self.run.shard and self.optim.kind == "muon":
            raise ValueError("optim.kind muon needs whole matrices; use adamw with run.shard")
        return self
