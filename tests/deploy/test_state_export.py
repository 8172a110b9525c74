"""The student with a memory as one step, (frame, state) -> (answers, state'), in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from ookd.models import zoo
from ookd.models.compact.memory import CompactMemory
from ookd.models.families import preset
from ookd.models.preprocess import IMAGENET
from ookd.tracking.recordings import recordings
from ookd.worlds import World

SIZE = (96, 160)
SHOWN = 8  # slots whose masks are compared


class OneStep(nn.Module):
    def __init__(self, model: CompactMemory) -> None:
        super().__init__()
        self.model = model
        self.names = list(model.begin(1))

    def forward(self, frames: Tensor, pad: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        answer, after = self.model(frames, pad, dict(zip(self.names, state, strict=True)))
        masks = answer.masks(torch.arange(SHOWN).unsqueeze(0))
        assert answer.identity is not None
        return answer.logits, answer.identity, masks, *(after[name] for name in self.names)


@torch.no_grad()
def test_ten_frames_agree_with_pytorch(tmp_path: Path) -> None:
    model = zoo.build(preset("nano-memory", classes=14)).eval()
    zoo.start_from(model, "nano")
    assert isinstance(model, CompactMemory)
    step, state = OneStep(model).eval(), tuple(model.begin(1).values())
    frames, pad = torch.zeros(1, 3, *SIZE), torch.zeros(1, *SIZE, dtype=torch.bool)
    names = [f"state_{name}" for name in step.names]
    torch.onnx.export(
        step,
        (frames, pad, *state),
        str(tmp_path / "step.onnx"),
        dynamo=True,
        opset_version=18,
        input_names=["frames", "pad", *names],
        output_names=["logits", "identity", "masks", *(f"next_{name}" for name in step.names)],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx", providers=["CPUExecutionProvider"])
    inputs = {entry.name for entry in session.get_inputs()}
    height, width = SIZE
    world = World("identity", split="tune", videos=1, size=(0.3, 0.6), height=height, width=width, frames=10)
    carried = [value.numpy() for value in state]
    seen = 0
    for image in recordings(world)[0].images():
        frame = IMAGENET.normalise(torch.from_numpy(image).permute(2, 0, 1)[None], pad)
        given = {"frames": frame.numpy(), "pad": pad.numpy(), **dict(zip(names, carried, strict=True))}
        logits, identity, masks, *carried = session.run(None, {k: v for k, v in given.items() if k in inputs})
        ours, our_identity, our_masks, *state = step(frame, pad, *state)
        assert np.array_equal(identity, our_identity.numpy())
        np.testing.assert_allclose(logits, ours.numpy(), atol=1e-3)
        shown = identity[0, :SHOWN] >= 0
        assert np.mean((masks[0, shown] > 0) != (our_masks[0, shown].numpy() > 0)) < 1e-3
        seen += int(shown.sum())
    for theirs, expected in zip(carried, state, strict=True):
        np.testing.assert_allclose(theirs, expected.numpy(), atol=1e-3)
    assert seen > 20
