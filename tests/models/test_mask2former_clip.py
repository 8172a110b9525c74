"""Mask2Former for clips, from the image network: as a plain loop over all frames, and as an offline model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.borrowed import CLIP, tiny
from ookd.config.tracker import OfflineConfig
from ookd.models.mask2former.clip import Mask2FormerClip, clip_positions
from ookd.models.protocols import Network
from ookd.structures import ClipQueries
from ookd.tracking.offline import track_offline

QUERIES = 10


def clips(count: int, frames: int, height: int = 64, width: int = 96) -> tuple[Tensor, Tensor]:
    noise = torch.randn(count, frames, 3, height, width, generator=torch.Generator().manual_seed(2))
    return noise, torch.zeros(count, frames, height, width, dtype=torch.bool)


def every(answer: ClipQueries) -> Tensor:
    return answer.masks(torch.arange(QUERIES).expand(len(answer.logits), -1))


@torch.no_grad()
def frame_by_frame(model: Network, clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The published decoder on one clip [T, 3, H, W], its masks made and resized in each frame by itself."""
    assert isinstance(model, Mask2FormerClip)
    net, module = model.net.model, model.net.model.transformer_module
    decoder, t = module.decoder, len(clip)
    levels = net.pixel_level_module(pixel_values=clip)
    keys, positions, sizes = [], [], []
    for i, level in enumerate(levels.decoder_hidden_states):
        h, w = level.shape[-2:]
        key = module.input_projections[i](level).flatten(2) + module.level_embed.weight[i][:, None]
        keys.append(key.transpose(1, 2).reshape(t * h * w, 1, -1))
        positions.append(clip_positions(t, h, w, key.shape[1], key.device).reshape(t * h * w, 1, -1))
        sizes.append((h, w))
    hidden = module.queries_features.weight.unsqueeze(1)
    place = module.queries_embedder.weight.unsqueeze(1)

    def heads(hidden: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        query = decoder.layernorm(hidden)[:, 0]
        masks = torch.einsum(
            "qc,tchw->qthw", decoder.mask_predictor.mask_embedder(query), levels.decoder_last_hidden_state
        )
        hidden_from = F.interpolate(masks, size, mode="bilinear").sigmoid().flatten(1) < 0.5
        hidden_from[hidden_from.all(1)] = False
        return query, masks, hidden_from.expand(decoder.mask_predictor.num_heads, -1, -1)

    query, masks, hidden_from = heads(hidden, sizes[0])
    for i, layer in enumerate(decoder.layers):
        hidden = layer(hidden, i % 3, None, positions, place, keys, encoder_attention_mask=hidden_from)[0]
        query, masks, hidden_from = heads(hidden, sizes[(i + 1) % 3])
    return model.net.class_predictor(query), query, masks


def test_it_is_the_published_decoder() -> None:
    model = tiny(CLIP)
    clip, pad = clips(2, 4)
    with torch.no_grad():
        answer = model(clip, pad)
    for b in range(2):
        logits, query, masks = frame_by_frame(model, clip[b])
        torch.testing.assert_close(answer.logits[b], logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(answer.features[b], query, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(every(answer)[b], masks, rtol=1e-4, atol=1e-5)
    select = torch.tensor([[3, 1], [0, 2]])
    chosen = every(answer)[torch.arange(2)[:, None], select]
    torch.testing.assert_close(answer.masks(select), chosen, rtol=1e-5, atol=1e-5)
    assert answer.frame_features.shape == (2, 4, QUERIES, 32)


def test_a_clip_of_one_frame_is_the_image() -> None:
    """Its frame code is the same for all cells, and attention does not see that."""
    clip, pad = clips(2, 1)
    with torch.no_grad():
        answer = tiny(CLIP)(clip, pad)
        image, _ = tiny("mask2former-swin-tiny")(clip[:, 0], pad[:, 0])
    torch.testing.assert_close(answer.logits, image.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        every(answer)[:, :, 0],
        image.masks(torch.arange(QUERIES).expand(2, -1)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_codes_of_positions_are_those_of_the_formula() -> None:
    codes = clip_positions(2, 3, 4, 8, torch.device("cpu"))
    t, y, x = 1, 2, 3
    turn = 2 * np.pi
    down, across, time = (turn * (y + 1) / 3, turn * (x + 1) / 4, turn * (t + 1) / 2)
    first = [np.sin(down), np.cos(down), np.sin(down / 100), np.cos(down / 100)]
    second = [np.sin(across), np.cos(across), np.sin(across / 100), np.cos(across / 100)]
    frame = [f(time / 10**k) for k in range(4) for f in (np.sin, np.cos)]
    assert codes[t, y, x].tolist() == pytest.approx(np.add(first + second, frame).tolist(), abs=1e-4)


def test_clips_of_any_size_have_masks_of_their_size() -> None:
    model = tiny(CLIP)
    with torch.no_grad():
        odd, padded = model(*clips(1, 2, 72, 104)), clips(1, 2, 72, 104)
        whole = model(F.pad(padded[0], (0, 24, 0, 24)), F.pad(padded[1], (0, 24, 0, 24), value=True))
    assert every(odd).shape == (1, QUERIES, 2, 18, 26)
    assert torch.equal(every(odd), every(whole)[..., :18, :26])


def test_it_tracks_a_recorded_video() -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (48, 80, 3), dtype=np.uint8) for _ in range(7)]
    config = OfflineConfig(short_side=64, window=4, shared=1, final_score=0.0)
    model = tiny(CLIP)
    assert isinstance(model, Mask2FormerClip)
    tracks = track_offline(model, iter(images), config)
    assert tracks
    assert all(len(track.masks) == 7 for track in tracks)
    assert all(0 < track.probs.sum() / track.frames < 1 for track in tracks)  # the rest is "no object"
