"""SAM 3 as a labeller: all objects of a video that match the texts.

A detector finds the objects of each text in every frame, and a tracker follows them. The model's rules for
doubtful objects need later frames. So it runs frame by frame in its mode for whole videos, reading frames on
demand and dropping memory that no later frame uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from ookd.errors import UserError
from ookd.label.borrowed import BorrowedFolder, TextTeacher, pixels, squared
from ookd.label.mask_cleaning import MaskKernels, apart, encoded
from ookd.label.prompts import Prompts
from ookd.label.track_memory import CurrentFrame, SpooledTracks, forget
from ookd.models.transformers_network import quiet
from ookd.structures import TrackResult
from ookd.tracking.frame_model import Image
from ookd.tracking.recordings import Recording

KIND = "sam3_video"
TOKENS = 32  # to which a text is padded
GREY = 127.5  # mean and deviation of its pixels
PATIENCE = 300  # frames without the object after which it is dropped


class Sam3Labeller(TextTeacher):
    """A frame's confidence is that of the track's detection, times the tracker's in the frame."""

    def __init__(
        self,
        folder: BorrowedFolder,
        prompts: Prompts,
        device: torch.device,
        objects: int | None = None,
        side: int | None = None,
    ) -> None:
        changes: dict[str, Any] = {} if objects is None else {"max_num_objects": objects}
        if side is not None:
            changes |= _sized(side)
        super().__init__(folder, prompts, **changes)
        self._device = device
        self._model = folder.load("Sam3VideoModel", device, **changes)
        words = folder.tokenizer()(
            list(prompts.texts), padding="max_length", max_length=TOKENS, truncation=True
        )
        self._words = torch.tensor(words["input_ids"]), torch.tensor(words["attention_mask"])

    def tracks(
        self, recording: Recording, on_frame: Callable[[], None] = lambda: None
    ) -> Iterator[TrackResult]:
        from transformers.models.sam3_video import modeling_sam3_video

        # without these it skips cleaning, or downloads kernels
        vars(modeling_sam3_video)["cv_utils_kernel"] = MaskKernels
        model, side = self._model, int(self._model.config.image_size)
        frames, spooled = CurrentFrame(recording.length), SpooledTracks(recording.length)
        texts: dict[int, int] = {}  # object -> the text that found it
        seen: dict[int, int] = {}  # object -> the last frame that shows it
        doubted: set[int] = set()  # objects that the model withdrew
        session = self._session(frames)
        for number, image in enumerate(recording.images()):
            frames.show(number, pixels(image, squared(side, GREY), side, self._device)[0])
            with torch.inference_mode(), quiet():
                answer = model(inference_session=session, frame_idx=number)
            texts.update(session.obj_id_to_prompt_id)
            seen.update(dict.fromkeys(session.obj_ids - seen.keys(), number))
            seen.update(dict.fromkeys(self._keep(answer, number, texts, spooled, image), number))
            for id in [id for id in session.obj_ids if number - seen[id] >= PATIENCE]:
                session.let_go(id)
            self._forget(session, number)
            doubted.update(answer.removed_obj_ids)
            on_frame()
        for id in spooled:
            if id not in doubted:
                yield spooled.result(id, recording.id, self._prompts.labels[texts[id]] + 1)

    def _session(self, frames: CurrentFrame) -> Any:
        """A session that keeps the prompts. The library's own loses them with its last object."""
        from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

        ids, masks, prompts, device = *self._words, self._prompts, self._device

        class PromptedSession(Sam3VideoInferenceSession):
            def reset_inference_session(self) -> None:
                most = self.max_obj_id
                super().reset_inference_session()  # type: ignore[no-untyped-call]
                self.max_obj_id = most  # so that ids are not reused
                self.ask()

            def let_go(self, id: int) -> None:
                self.remove_object(id)
                self.obj_ids = [other for other in self.obj_ids if other != id]
                self.obj_id_to_last_occluded.pop(id, None)

            def ask(self) -> None:
                for number, text in enumerate(prompts.texts):
                    self.add_prompt(text)
                    self.prompt_input_ids[number] = ids[number : number + 1].to(device)
                    self.prompt_attention_masks[number] = masks[number : number + 1].to(device)

        session = PromptedSession(dtype=torch.float32, inference_device=device, inference_state_device=device)
        session.processed_frames = frames
        session.ask()
        return session

    def _keep(
        self, answer: Any, frame: int, texts: Mapping[int, int], spooled: SpooledTracks, image: Image
    ) -> list[int]:
        """Spool the masks of a frame, and return the objects that it shows.

        Among objects of one text, the most confident one owns shared pixels.
        """
        hidden = answer.suppressed_obj_ids | answer.removed_obj_ids
        ids = [id for id in answer.obj_id_to_mask if id not in hidden]
        if not ids:
            return []
        sure = [float(answer.obj_id_to_tracker_score.get(id, 0.0)) for id in ids]
        logits = torch.cat([answer.obj_id_to_mask[id] for id in ids]).float()
        groups = [texts[id] for id in ids]
        masks = encoded(apart(logits, sure, groups), image.shape[0], image.shape[1])
        for id, mask, score in zip(ids, masks, sure, strict=True):
            if mask is not None:
                spooled.add(id, frame, mask, max(0.0, score * float(answer.obj_id_to_score[id])))
        return [id for id, mask in zip(ids, masks, strict=True) if mask is not None]

    def _forget(self, session: Any, frame: int) -> None:
        model, config = self._model, self._model.config.tracker_config
        for memory in session.output_dict_per_obj.values():
            forget(memory, frame, config)
        for by_frame in (
            session.obj_id_to_tracker_score_frame_wise,
            session.suppressed_obj_ids,
            *session.frames_tracked_per_obj.values(),
        ):
            for old in [t for t in by_frame if t < frame]:
                del by_frame[old]
        for frames in session.unmatched_frame_inds.values():
            del frames[: -max(1, model.hotstart_unmatch_thresh)]
        for frames in session.overlap_pair_to_frame_inds.values():
            del frames[: -max(1, model.hotstart_dup_thresh)]


def _sized(side: int) -> dict[str, int]:
    """The configuration for another frame size."""
    if side < 56 or side % 14:
        raise UserError(f"--size {side}: SAM 3 takes multiples of 14, such as 560 or 1008")
    return {"image_size": side, "low_res_mask_size": side // 14 * 4}
