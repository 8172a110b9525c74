"""Models of the Hugging Face hub: which of them can run here, and how they are downloaded.

A folder that `transformers` wrote, on the hub or not, has a `model_type` in its config.json. `MODEL_TYPES`
maps it to a family; the family's configuration is a `TransformersModelConfig`, which reads the rest. Only
safetensors are loaded, never a pickle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ookd.errors import UserError
from ookd.models.catalogue import CATALOGUE
from ookd.models.families import family_named
from ookd.models.label_sets import LABEL_SETS
from ookd.models.licence import CARD
from ookd.models.transformers_network import TransformersModelConfig

# `model_type` in the config.json of transformers -> the family here
MODEL_TYPES = {
    "videomt": "videomt",
    "rf_detr": "rf-detr",
    "eomt": "eomt",
    "eomt_dinov3": "eomt",
    "mask2former": "mask2former",
    "maskformer": "maskformer",
}
# the same for models that were trained on clips, though their config.json names the architecture of images
CLIP_TYPES = {"mask2former": "mask2former-clip"}

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")


def is_hub_id(source: str) -> bool:
    """Whether a text has the form owner/name or owner/name@revision."""
    return _ID.fullmatch(source) is not None


def hub_id(name: str) -> str | None:
    """The hub id of a text: itself, or that of a short name."""
    if is_hub_id(name):
        return name
    return next((model.id for model in CATALOGUE if model.alias == name), None)


def read_config(fields: Mapping[str, Any]) -> tuple[TransformersModelConfig, list[str]]:
    """The configuration and the class names from a config.json of `transformers`.

    A model with the classes of a video benchmark was trained on clips.
    """
    kind = fields.get("model_type")
    if kind not in MODEL_TYPES:
        raise UserError(f"model_type {kind!r} cannot be run; choose from {', '.join(MODEL_TYPES)}")
    config: Any = family_named(MODEL_TYPES[kind]).config
    read: tuple[TransformersModelConfig, list[str]] = config.from_transformers(fields)
    if kind in CLIP_TYPES and read[1] in LABEL_SETS.values():
        config = family_named(CLIP_TYPES[kind]).config
        read = config.from_transformers(fields)
    return read


def download(name: str, more: Sequence[str] = ()) -> Path:
    """The folder of a hub model. The hub is contacted only if the model is not on this disk yet.

    `more` are patterns of files to bring along, if there are any.
    """
    import huggingface_hub.constants
    from huggingface_hub import errors, snapshot_download

    repository, _, revision = name.partition("@")
    wanted: dict[str, Any] = {"revision": revision or None, "allow_patterns": [CONFIG, WEIGHTS, CARD, *more]}
    with suppress(errors.LocalEntryNotFoundError, errors.HFValidationError):
        here = Path(snapshot_download(repository, local_files_only=True, **wanted))
        if _missing(here) is None:
            return here
    try:
        folder = Path(snapshot_download(repository, **wanted))
    except errors.GatedRepoError:
        page = f"{huggingface_hub.constants.ENDPOINT}/{repository}"
        raise UserError(f"model {name}: is gated; accept the terms at {page}, then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"model {name}: neither a folder here nor a model on the hub; if it is private, `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"model {name}: the hub has no revision {revision} of {repository}") from None
    except errors.HFValidationError as error:
        raise UserError(f"model {name}: not a hub id: {_first_line(error)}") from None
    except (errors.LocalEntryNotFoundError, OSError) as error:
        cache = huggingface_hub.constants.HF_HUB_CACHE
        raise UserError(
            f"model {name}: no such folder, and it cannot be downloaded: the hub cannot be reached, and "
            f"{cache} does not hold it ({_first_line(error)})"
        ) from None
    if file := _missing(folder):
        why = "it is no model" if file == CONFIG else "other kinds of weights are never loaded"
        raise UserError(f"model {name}: the hub has no {file} of it; {why}")
    return folder


def downloaded(name: str) -> bool:
    """Whether the weights of a hub id are on this disk already."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name.partition("@")[0], WEIGHTS), str)


def pinned(name: str, folder: Path) -> str:
    """The hub id with the revision that was downloaded."""
    return f"{name.partition('@')[0]}@{folder.name[:12]}"


def _missing(folder: Path) -> str | None:
    """The first file that a model needs and this folder lacks."""
    return next((file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()), None)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
