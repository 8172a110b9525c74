"""The published tracker's own behaviour, sequence by sequence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import golden_cases
from ookd.config.tracker import TrackerConfig
from ookd.data.rle import decode
from ookd.masks import Geometry
from ookd.tracking.select import Detections, mask_iou, mask_places, select_queries, suppress
from ookd.tracking.video_tracker import VideoTracker

CASES = golden_cases("idol_tracker_t*.npz")
METRICS = {
    "bisoftmax": {},
    "softmax": {"normalise": "memory"},
    "cosine": {"similarity": "cosine", "normalise": "none"},
}


def config_of(tracker: dict, post: dict) -> TrackerConfig:
    """The same constants under this package's names."""
    return TrackerConfig(
        select_score=post["inference_select_thres"],
        mask_nms=tracker["nms_thr_pre"],
        **METRICS[tracker.get("match_metric", "bisoftmax")],
        match=tracker.get("match_score_thr", 0.5),
        prefer_lasting=tracker["frame_weight"],
        memory="recent" if tracker["long_match"] else "momentum",
        memory_length=tracker["memory_len"],
        prefer_recent=tracker["temporal_weight"],
        momentum=tracker["memo_momentum"],
        horizon=tracker["memo_tracklet_frames"],
        first_score=tracker["init_score_thr"],
        new_score=tracker["addnew_score_thr"],
        pool=post["temporal_score_type"],
        every_class=post["multi_cls"],
        final_score=post["apply_cls_thres"],
    )


@pytest.mark.skipif(not CASES, reason="no reference sequences (set OOKD_GOLDEN)")
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_sequence(case: Path) -> None:
    expected = json.loads(case.with_suffix(".json").read_text())
    data = np.load(case)
    config = config_of(expected["tracker"], expected["post"])
    (height, width), image = expected["post"]["ori_size"], expected["post"]["image_size"]
    frames, _, classes = data["pred_logits"].shape
    probs = 1 / (1 + np.exp(-data["pred_logits"]))
    tracker = VideoTracker(config, final=True)
    for frame in range(frames):
        want = expected["frames"][frame]
        query = select_queries(probs[frame], data["pred_boxes"][frame], config)
        assert query.tolist() == want["in_queries"]
        masks = data["pred_masks"][frame, query, 0]
        query = query[kept := suppress(mask_iou(masks > 0), config.mask_nms)]
        assert query.tolist() == want["kept_queries"]
        result = tracker.step(
            Detections(
                probs[frame, query],
                data["pred_inst_embed"][frame, query],
                mask_places(masks[kept] > 0, 1.0),
                query,
                None,
                masks[kept],
                Geometry(height, width, *image),
            )
        )
        # The published tracker tells two kinds of non-objects apart (-1, -2) and then drops both.
        assert result.ids.tolist() == [id for id in want["ids"] if id >= 0]
        memory = tracker.memory
        assert memory.ids.tolist() == want["memory_ids"]
        assert memory.seen.tolist() == want["exist_frame"]
        assert memory.last.tolist() == want["last_frame"]

    tracks = list(tracker.results.tracks(1, range(classes)))
    np.testing.assert_allclose([track.score for track in tracks], data["out_scores"], rtol=1e-5)
    assert [track.category_id for track in tracks] == data["out_labels"].tolist()
    present = [[mask is not None for mask in track.segmentations] for track in tracks]
    np.testing.assert_array_equal(np.reshape(present, (-1, frames)), data["out_mask_present"])
    wanted = np.unpackbits(data["out_masks_packed"], axis=-1)[..., :width].astype(bool)
    for track, masks in zip(tracks, wanted, strict=True):
        for rle, mask in zip(track.segmentations, masks, strict=True):
            np.testing.assert_array_equal(np.zeros_like(mask) if rle is None else decode(rle), mask)
