"""Detectors of single frames: text detectors with boxes, and frame models with masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ookd.boxes import iou, to_xyxy
from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.files import fingerprint
from ookd.label.borrowed import BorrowedFolder, TextTeacher, pixels
from ookd.label.prompts import Prompts
from ookd.label.saved import origin
from ookd.masks import Bools, Floats, Ints
from ookd.models.families import family_of
from ookd.models.preprocess import Preprocessing
from ookd.models.protocols import OnlineModel
from ookd.models.zoo import Saved
from ookd.tracking.frame_model import Image, detect
from ookd.tracking.select import suppress
from ookd.tracking.torch_model import TorchFrameModel

TEXT_DETECTORS = {
    "grounding-dino": "GroundingDinoForObjectDetection",
    "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
}
FOUND = 0.3  # lowest score of a detection
SAME = 0.7  # IoU above which the lower-scored box of one class is dropped
SHORT_SIDE = 800  # of frames for text detectors


@dataclass(frozen=True, slots=True)
class Finds:
    """N objects in a frame, best first."""

    labels: list[int]
    scores: list[float]
    boxes: Floats  # [N, 4] x1 y1 x2 y2 in pixels
    masks: Bools | None = None  # [N, H, W], if the detector has them


class Finder(Protocol):
    """Detects objects of its classes in one frame."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def teacher(self) -> Mapping[str, Any]: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def find(self, image: Image) -> Finds: ...


class TextFinder(TextTeacher):
    """Grounding DINO. The score of a text is that of its best word."""

    def __init__(self, folder: BorrowedFolder, prompts: Prompts, device: torch.device) -> None:
        super().__init__(folder, prompts)
        self._device = device
        self._model = folder.load(TEXT_DETECTORS[folder.kind], device)
        self._words, self._owner = self._tokens(folder.tokenizer())

    def _tokens(self, tokenizer: Any) -> tuple[dict[str, Tensor], Tensor]:
        """The words of all texts, and the text of each word [W]; -1 for separators."""
        words, owner = [tokenizer.cls_token_id], [-1]
        stop = tokenizer.convert_tokens_to_ids(".")
        for number, text in enumerate(self._prompts.texts):
            own = tokenizer(text.lower().replace(".", " "), add_special_tokens=False)["input_ids"]
            words += [*own, stop]
            owner += [number] * len(own) + [-1]
        words.append(tokenizer.sep_token_id)
        owner.append(-1)
        most = int(self._model.config.max_text_len)
        if len(words) > most:
            raise UserError(f"--text: the texts have {len(words)} tokens; at most {most} are possible")
        ids = torch.tensor([words], device=self._device)
        given = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
        }
        return given, torch.tensor(owner)

    @torch.inference_mode()
    def find(self, image: Image) -> Finds:
        frame = pixels(image, Preprocessing(multiple=1), SHORT_SIDE, self._device)
        answer = self._model(pixel_values=frame, **self._words)
        words = answer.logits[0, :, : len(self._owner)].sigmoid().float().cpu()  # [Q, W]
        by_text = torch.stack(
            [words[:, self._owner == number].amax(1) for number in range(len(self._prompts.texts))], 1
        )
        score, text = by_text.max(1)
        size = torch.tensor([image.shape[1], image.shape[0]] * 2)
        boxes = (to_xyxy(answer.pred_boxes[0].float().cpu()) * size).numpy()
        labels = np.array([self._prompts.labels[n] for n in text.tolist()])
        return best(labels, score.numpy(), boxes)


class FrameFinder:
    """A frame model of this package."""

    def __init__(self, saved: Saved, source: str) -> None:
        if not isinstance(saved.model, OnlineModel) or saved.model.begin(1) is not None:
            raise UserError(f"model {source}: --follow needs a model of single frames")
        self._saved, self._source = saved, source
        self._network = TorchFrameModel(saved.model)
        constants = family_of(saved.model).tracker.changed(saved.tracker)
        assert isinstance(constants, TrackerConfig)
        self._constants = constants

    @property
    def names(self) -> Sequence[str]:
        return self._saved.names

    @property
    def teacher(self) -> Mapping[str, Any]:
        return origin(self._saved, self._source)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"model": fingerprint(self._saved.model), "tracker": self._saved.tracker}

    def find(self, image: Image) -> Finds:
        predictions, _ = self._network.infer([image], self._constants.short_side)
        detections = next(iter(detect(predictions, self._constants)))
        kept = np.flatnonzero(detections.scores >= FOUND)
        masks, boxes = detections.full_size(kept)
        labels = detections.probs[kept].argmax(1)
        return Finds(labels.tolist(), detections.scores[kept].tolist(), boxes, masks)


def best(labels: Ints, scores: Floats, boxes: Floats) -> Finds:
    """The detections above the least score, without near-duplicates within a class."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= FOUND]
    corners = torch.from_numpy(boxes[order])
    same_class = labels[order][:, None] == labels[order]
    kept = order[suppress(iou(corners, corners).numpy() * same_class, SAME)]
    return Finds(labels[kept].tolist(), scores[kept].tolist(), boxes[kept])
