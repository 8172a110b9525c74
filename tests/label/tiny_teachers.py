"""Text teachers of a few thousand parameters, as `transformers` makes and writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3VideoConfig,
    Sam3VideoModel,
)

SIDE = 112  # 8 x 8 patches of 14
LEVELS = [[32, 32], [16, 16], [8, 8]]
CARD = "---\nlicense: other\nlicense_name: sam-license\n---\n"


def _vision() -> dict[str, Any]:
    body = {
        "model_type": "sam3_vit_model",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": SIDE,
    }
    return {
        "backbone_config": body,
        "fpn_hidden_size": 128,
        "backbone_feature_sizes": LEVELS,
        "scale_factors": [4.0, 2.0, 1.0, 0.5],
    }


def _layers(count: int = 1) -> dict[str, Any]:
    return {"hidden_size": 128, "num_layers": count, "num_attention_heads": 2, "intermediate_size": 64}


def _memory(hidden: int = 128) -> dict[str, Any]:
    return {
        "mask_decoder_config": {
            "hidden_size": hidden,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 64,
        },
        "memory_attention_hidden_size": hidden,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_attention_rope_feat_sizes": [8, 8],
        "num_maskmem": 3,
        "max_object_pointers_in_encoder": 5,
        "memory_encoder_hidden_size": hidden,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": hidden,
        "memory_fuser_embed_dim": hidden,
        "memory_fuser_intermediate_dim": 64,
    }


def _sees(tracker: Any) -> None:
    """Make a random tracker take its objects to be in view, with masks that depend on the frame."""
    with torch.no_grad():
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(2.0)
        for name, weight in tracker.mask_decoder.named_parameters():
            if "hypernetworks" in name or "upscale" in name:
                weight.mul_(8.0)


def sam3(folder: Path, **changes: Any) -> Path:
    """A SAM 3 that finds something in any frame, whatever the text."""
    torch.manual_seed(0)
    text = {
        "vocab_size": 600,
        "hidden_size": 128,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "projection_dim": 128,
    }
    detector = {
        "model_type": "sam3",
        "vision_config": _vision(),
        "text_config": text,
        "geometry_encoder_config": _layers(),
        "detr_encoder_config": _layers(),
        "detr_decoder_config": {**_layers(2), "num_queries": 12},
        "mask_decoder_config": {"hidden_size": 128, "num_attention_heads": 2},
    }
    prompt = {"hidden_size": 128, "image_size": SIDE, "patch_size": 14, "mask_input_channels": 16}
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": _vision(),
        "prompt_encoder_config": prompt,
        "image_size": SIDE,
        **_memory(),
    }
    usual = {
        "low_res_mask_size": SIDE // 14 * 4,
        "score_threshold_detection": 0.0,
        "new_det_thresh": 0.0,
        "fill_hole_area": 2,
        "hotstart_delay": 4,
        "hotstart_unmatch_thresh": 3,
        "hotstart_dup_thresh": 3,
        "max_num_objects": 4,
    }
    config = Sam3VideoConfig(detector_config=detector, tracker_config=tracker, **{**usual, **changes})
    model = Sam3VideoModel(config).eval()
    _sees(model.tracker_model)
    model.save_pretrained(folder)
    _clip_tokenizer(folder)
    (folder / "README.md").write_text(CARD)
    return folder


def _clip_tokenizer(folder: Path) -> None:
    """The letters as a byte-pair vocabulary, without merges."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)


def sam2(folder: Path) -> Path:
    torch.manual_seed(1)
    body = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 16,
        "num_attention_heads": 1,
        "image_size": [128, 128],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 1, 2, 4],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": body,
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": LEVELS,
        "fpn_hidden_size": 128,
    }
    prompt = {"hidden_size": 128, "image_size": 128, "patch_size": 16, "mask_input_channels": 16}
    config = Sam2VideoConfig(vision_config=vision, prompt_encoder_config=prompt, image_size=128, **_memory())
    model = Sam2VideoModel(config).eval()
    _sees(model)
    model.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


def grounding_dino(folder: Path) -> Path:
    torch.manual_seed(2)
    text = {
        "model_type": "bert",
        "vocab_size": 1100,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    backbone = {
        "model_type": "swin",
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 4, 8],
        "window_size": 4,
        "image_size": 64,
        "out_features": ["stage2", "stage3", "stage4"],
    }
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=64,
        num_feature_levels=4,
    )
    model = GroundingDinoForObjectDetection(config).eval()
    with torch.no_grad():
        model.model.text_projection.weight.mul_(30.0)
    model.save_pretrained(folder)
    words = [f"[unused{n}]" for n in range(1100)]
    # where the model expects the marks of BERT
    for place, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 1012: ".", 1029: "?"}.items():
        words[place] = word
    words[200:203] = ["person", "fork", "##lift"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder
