"""A detector on key frames, and SAM 2 between them.

On every key frame the detector finds objects. The overlap of masks tells new objects from those that SAM 2
already follows. SAM 2 gets the masks or boxes of new objects, and follows each through the next frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.label.borrowed import BorrowedFolder, pixels, squared
from ookd.label.finders import Finder, Finds
from ookd.label.mask_cleaning import apart, encoded, without_specks
from ookd.label.track_memory import CurrentFrame, SpooledTracks, forget
from ookd.structures import TrackResult
from ookd.tracking.frame_model import Image
from ookd.tracking.recordings import Recording

KIND = "sam2_video"
KEY_FRAMES = 5  # the detector runs on every N-th frame
SAME, NEW = 0.5, 0.1  # mask IoU above which a find is a known object, and below which it is a new one
PATIENCE = 30  # frames without the object after which it is dropped
SPECK = 16  # cells; smaller holes and specks of a mask are removed


@dataclass(slots=True)
class Followed:
    """An object that is being followed."""

    id: int
    session: Any  # of SAM 2, for this object alone
    score: float  # of its best detection
    seen: int  # the last frame that showed it
    votes: dict[int, float] = field(default_factory=dict)  # class -> sum of the scores of its detections
    logits: Tensor | None = None  # [h, w] its mask in the current frame
    sure: float = 0.0  # SAM 2's probability that it is visible


class FollowLabeller:
    """A frame's confidence is that of the best detection of the track, times SAM 2's in the frame."""

    def __init__(
        self,
        finder: Finder,
        folder: BorrowedFolder,
        device: torch.device,
        objects: int | None = None,
        key_frames: int = KEY_FRAMES,
    ) -> None:
        self._finder, self._folder, self._device = finder, folder, device
        self._objects, self._key_frames = objects, key_frames
        self._model = folder.load("Sam2VideoModel", device)
        self._side = int(self._model.config.image_size)

    @property
    def names(self) -> Sequence[str]:
        return self._finder.names

    @property
    def teacher(self) -> Mapping[str, Any]:
        detector, tracker = self._finder.teacher, self._folder.teacher
        both = {
            key: " + ".join(dict.fromkeys(filter(None, (detector[key], tracker[key])))) for key in tracker
        }
        return {**detector, **both}

    @property
    def settings(self) -> Mapping[str, Any]:
        rules = {"objects": self._objects, "key_frames": self._key_frames}
        return {**self._finder.settings, "follow": self._folder.teacher, **rules}

    def tracks(
        self, recording: Recording, on_frame: Callable[[], None] = lambda: None
    ) -> Iterator[TrackResult]:
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceCache

        frames, spooled = CurrentFrame(recording.length), SpooledTracks(recording.length)
        cache = Sam2VideoInferenceCache(self._device, self._device)
        followed: list[Followed] = []
        votes: list[dict[int, float]] = []  # of all objects so far, by id
        for number, image in enumerate(recording.images()):
            frames.show(number, pixels(image, squared(self._side), self._side, self._device)[0])
            for one in followed:
                self._look(one, number)
            if number % self._key_frames == 0:
                for label, score, start in self._starts(self._finder.find(image), image):
                    one = self._begin(len(votes), number, score, start, frames, cache)
                    if (known := self._known(one, followed)) is not None:
                        known.votes[label] = known.votes.get(label, 0.0) + score
                        known.score = max(known.score, score)
                    elif self._is_new(one, followed) and len(followed) < (self._objects or len(followed) + 1):
                        one.votes[label] = score
                        followed.append(one)
                        votes.append(one.votes)
            self._keep(followed, number, image, spooled)
            followed = [one for one in followed if number - one.seen < PATIENCE]
            on_frame()
        for id in spooled:
            yield spooled.result(id, recording.id, max(votes[id], key=votes[id].__getitem__) + 1)

    def _starts(self, finds: Finds, image: Image) -> Iterator[tuple[int, float, dict[str, Any]]]:
        """Class, score and SAM 2 prompt of each find."""
        scale = self._side / np.array([image.shape[1], image.shape[0]] * 2)
        for n, (label, score) in enumerate(zip(finds.labels, finds.scores, strict=True)):
            if finds.masks is not None:
                mask = torch.from_numpy(finds.masks[n])[None, None].float()
                yield label, score, {"mask": F.interpolate(mask, (self._side, self._side), mode="nearest")}
            else:
                corners = torch.from_numpy(finds.boxes[n] * scale).float().view(1, 1, 2, 2)
                yield label, score, {"box": corners}

    def _begin(
        self, id: int, frame: int, score: float, start: dict[str, Any], frames: CurrentFrame, cache: Any
    ) -> Followed:
        """Start to follow an object. Each has its own session, so that it can be dropped by itself."""
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        session = Sam2VideoInferenceSession(
            dtype=torch.float32, inference_device=self._device, inference_state_device=self._device
        )
        session.processed_frames, session.cache = frames, cache
        session.obj_id_to_idx(id)
        if "mask" in start:
            session.add_mask_inputs(0, frame, start["mask"])
        else:
            corners = torch.tensor([[[2, 3]]], dtype=torch.int32)  # how SAM marks the corners of a box
            session.add_point_inputs(0, frame, {"point_coords": start["box"], "point_labels": corners})
        session.obj_with_new_inputs = [id]
        one = Followed(id, session, score, frame)
        self._look(one, frame)
        session.mask_inputs_per_obj[0].clear()
        session.point_inputs_per_obj[0].clear()
        return one

    @torch.inference_mode()
    def _look(self, one: Followed, frame: int) -> None:
        """Follow the object into the current frame."""
        answer = self._model(inference_session=one.session, frame_idx=frame)
        one.sure = float(answer.object_score_logits.float().sigmoid().reshape(-1)[0])
        logits = answer.pred_masks.float().reshape(1, *answer.pred_masks.shape[-2:])
        one.logits = without_specks(logits, SPECK)[0]
        if one.sure > 0.5 and bool((one.logits > 0).any()):
            one.seen = frame
        forget(one.session.output_dict_per_obj[0], frame, self._model.config)
        tracked = one.session.frames_tracked_per_obj[0]
        for old in [t for t in tracked if t < frame]:
            del tracked[old]

    def _known(self, find: Followed, followed: Sequence[Followed]) -> Followed | None:
        """The followed object that a find shows again."""
        best = max(followed, key=lambda one: mask_overlap(find, one), default=None)
        return best if best is not None and mask_overlap(find, best) > SAME else None

    def _is_new(self, find: Followed, followed: Sequence[Followed]) -> bool:
        shown = find.logits is not None and bool((find.logits > 0).any())
        return shown and all(mask_overlap(find, one) < NEW for one in followed)

    def _keep(self, followed: Sequence[Followed], frame: int, image: Image, spooled: SpooledTracks) -> None:
        shown = [one for one in followed if one.seen == frame and one.logits is not None]
        if not shown:
            return
        logits = torch.stack([one.logits for one in shown if one.logits is not None])
        sure = [one.sure * one.score for one in shown]
        masks = encoded(apart(logits, sure, [0] * len(shown)), image.shape[0], image.shape[1])
        for one, mask, score in zip(shown, masks, sure, strict=True):
            if mask is not None:
                spooled.add(one.id, frame, mask, score)


def mask_overlap(a: Followed, b: Followed) -> float:
    """IoU of the masks of two objects in the current frame."""
    assert a.logits is not None
    assert b.logits is not None
    one, other = a.logits > 0, b.logits > 0
    return float((one & other).sum() / (one | other).sum().clamp(min=1))
