"""Models as folders with config.json and model.safetensors, the layout of the Hugging Face hub.

config.json holds {"model": the configuration with its "family", "names": the classes, "tracker": the
constants that differ from the family's}. Nothing in a folder is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ookd import limits, untrusted
from ookd.config.model_folder import ModelFolder, checked
from ookd.errors import UserError
from ookd.files import write_file
from ookd.models.families import family_named, parse_config
from ookd.models.protocols import ModelConfig, Network

CONFIG, WEIGHTS = "config.json", "model.safetensors"
DRAWN = "drawn worlds"  # `trained_on` in the config.json of a model that has seen nothing else
BUNDLED = Path(__file__).parents[1] / "bundled"  # one folder for each model that comes with the package


@dataclass(slots=True)
class Saved:
    """The content of a model folder."""

    model: Network
    names: list[str]  # of the classes, by label
    tracker: dict[str, Any] = field(default_factory=dict)
    trained_on: str = ""  # DRAWN, or nothing where it was not noted


def build(config: ModelConfig) -> Network:
    """The model of a configuration, with random weights."""
    return family_named(config.family).network(config)


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(folder.name for folder in BUNDLED.glob("*") if (folder / CONFIG).is_file())


def load(source: str | Path, device: torch.device | str = "cpu") -> Saved:
    """The model of a folder, of a run, of a bundled name or of a hub id, ready for inference."""
    folder = _folder(source)
    saved = _read(folder)
    state = _read_weights(folder)
    if odd := misfits(saved.model.state_dict(), state):
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise UserError(f"{folder / WEIGHTS} does not fit {CONFIG}: {'; '.join(odd[:3])}{more}")
    saved.model.load_state_dict(state)
    saved.model.to(device).eval()
    return saved


def config_of(source: str | Path) -> ModelConfig:
    """The configuration of a saved model, without its weights."""
    folder = _folder(source)
    return _model_config(folder, _read_config(folder))


def save_pretrained(
    model: Network,
    folder: str | Path,
    names: Sequence[str],
    tracker: Mapping[str, Any] | None = None,
    *,
    trained_on: str = "",
    overwrite: bool = False,
) -> None:
    """Write a model folder that `load` reads."""
    config = model.config
    if len(names) != config.classes:
        raise UserError(f"{folder}: {len(names)} class names for a model of {config.classes} classes")
    fields = {"model": config.model_dump(mode="json"), "names": list(names), "tracker": dict(tracker or {})}
    if trained_on:
        fields["trained_on"] = trained_on
    write_folder(folder, model.state_dict(), fields, overwrite=overwrite)


def write_folder(
    folder: str | Path, state: Mapping[str, Tensor], fields: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Weights first: without config.json the folder is not yet a model."""
    folder = Path(folder)
    if not overwrite and any((folder / name).exists() for name in (CONFIG, WEIGHTS)):
        raise UserError(f"{folder} already holds a model; choose another folder, or overwrite it")
    weights = {name: tensor.contiguous() for name, tensor in state.items()}
    write_file(folder / WEIGHTS, save(weights, {"format": "pt"}))
    _write_config(folder, fields)


def save_tracker(folder: str | Path, tracker: Mapping[str, Any]) -> None:
    """Change only the tracker's constants of a model folder."""
    folder = _of_run(Path(folder))
    _write_config(folder, {**_read_config(folder), "tracker": dict(tracker)})


def start_from(model: nn.Module, source: str | Path) -> list[str]:
    """Copy all weights of a saved model that fit by name and shape; return the names of the others.

    So a student can start from a model with other classes, from a teacher with the same backbone, or from a
    backbone alone, and a teacher around a frame network can start from a student.
    """
    folder = _folder(source)
    state, own = _read_weights(folder), model.state_dict()
    fitting = {}
    for name, tensor in own.items():
        for known in (name, name.partition(".")[2]):
            if known in state and not misfits({known: tensor}, {known: state[known]}):
                fitting[name] = state[known]
                break
    if not fitting:
        raise UserError(f"{folder / WEIGHTS}: no weight fits this model by name and shape")
    model.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def misfits(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """How `state` differs from the `expected` weights, by name and shape."""
    odd = [f"{name} is missing" for name in sorted(expected.keys() - state.keys())]
    odd += [f"{name} is not part of the model" for name in sorted(state.keys() - expected.keys())]
    for name, tensor in expected.items():
        if name in state and state[name].shape != tensor.shape:
            odd.append(f"{name} is {list(state[name].shape)}, should be {list(tensor.shape)}")
        elif name in state and state[name].is_floating_point() != tensor.is_floating_point():
            odd.append(f"{name} is {state[name].dtype}, should be {tensor.dtype}")
    return odd


def _folder(source: str | Path) -> Path:
    if Path(source).is_dir():
        return _of_run(Path(source))
    if isinstance(source, str) and source in bundled():
        return BUNDLED / source
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "~", "/")):
        return _download(source)
    names = ", ".join(bundled()) or "none"
    raise UserError(f"model {source}: neither a folder, a bundled name ({names}) nor a hub id (owner/name)")


def _of_run(folder: Path) -> Path:
    """The model folder of a training run: its best model, or the last if none was validated."""
    places = [folder, folder / "best", folder / "model"]
    return next((place for place in places if (place / CONFIG).is_file()), folder)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG, WEIGHTS]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"model {hub_id}: no such folder, and it cannot be downloaded from the hub: {reason}"
        ) from error


def _read(folder: Path) -> Saved:
    """The folder's model, its weights still random."""
    path, fields = folder / CONFIG, _read_config(folder)
    config = _model_config(folder, fields)
    found = checked(fields, ModelFolder, path)
    if len(found.names) != config.classes:
        raise UserError(f"{path}: names must be a list of {config.classes} class names")
    return Saved(build(config), found.names, found.tracker, found.trained_on)


def _model_config(folder: Path, fields: Mapping[str, Any]) -> ModelConfig:
    if "backbone" in fields:
        raise UserError(f"{folder} holds a backbone to start training from, not a model")
    model = fields.get("model", {})
    if not isinstance(model, dict):
        raise UserError(f"{folder / CONFIG}: model: must be an object")
    try:
        return parse_config(model)
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: model: {error}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if untrusted.fault_of(path) == untrusted.MISSING:
        raise UserError(f"{path}: no such file; a model folder holds {CONFIG} and {WEIGHTS}")
    return untrusted.read_json(path)


def _write_config(folder: Path, fields: Mapping[str, Any]) -> None:
    write_file(folder / CONFIG, json.dumps(fields, indent=2) + "\n")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    untrusted.check_file(path, limits.WEIGHTS)
    try:
        state = load_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: truncated or not a safetensors file: {error}") from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise UserError(f"{path}: {name} holds values that are not finite")
    return state
