"""Models as folders with config.json and model.safetensors, the layout of the Hugging Face hub.

config.json holds {"model": the configuration with its "family", "names": the classes, "tracker": the
constants that differ from the family's}. Folders that `transformers` wrote are read, too. Nothing in a folder
is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ookd import limits, untrusted
from ookd.config.model_folder import ModelFolder, checked
from ookd.errors import UserError
from ookd.files import write_file
from ookd.models import hub
from ookd.models.card import model_card
from ookd.models.catalogue import known_licence
from ookd.models.families import family_named, parse_config
from ookd.models.licence import CARD, announce, licence_in
from ookd.models.protocols import ModelConfig, Network

CONFIG, WEIGHTS = hub.CONFIG, hub.WEIGHTS
# in config.json, where there is something to say
NOTES = ("trained_on", "licence", "source", "labelled_by")
DRAWN = "drawn worlds"  # `trained_on` in the config.json of a model that has seen nothing else
BUNDLED = Path(__file__).parents[1] / "bundled"  # one folder for each model that comes with the package


@dataclass(slots=True)
class Saved:
    """The content of a model folder."""

    model: Network
    names: list[str]  # of the classes, by label
    tracker: dict[str, Any] = field(default_factory=dict)
    trained_on: str = ""  # DRAWN, or nothing where it was not noted
    licence: str = ""  # of the weights, if somebody else made them
    source: str = ""  # the hub id that they come from, or nothing
    labelled_by: str = ""  # the model that annotated its training data, and under which licence


def build(config: ModelConfig) -> Network:
    """The model of a configuration, with random weights."""
    return family_named(config.family).network(config)


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(folder.name for folder in BUNDLED.glob("*") if (folder / CONFIG).is_file())


def load(source: str | Path, device: torch.device | str = "cpu", names: Sequence[str] | None = None) -> Saved:
    """The model of a folder, of a run, of a bundled name, of a hub id or of a short name for one, ready for
    inference.

    `names` are the classes, for a folder that does not name them. The licence of other people's weights is
    printed once.
    """
    folder = folder_of(source)
    saved = _read(folder, source, names)
    state = saved.model.own_weights(_read_weights(folder))
    if odd := misfits(saved.model.state_dict(), state):
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise UserError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: {'; '.join(odd[:3])}{more}. If an earlier version of "
            "ookd saved it, train the model again or use that version"
        )
    saved.model.load_state_dict(state)
    saved.model.to(device).eval()
    if saved.licence:
        announce(saved.source or str(source), saved.licence)
    return saved


def config_of(source: str | Path) -> ModelConfig:
    """The configuration of a saved model, without its weights."""
    folder = folder_of(source)
    fields = _read_config(folder)
    if "model_type" in fields:
        return _of_transformers(folder, fields, None)[0]
    return _model_config(folder, fields)


def names_of(source: str | Path) -> list[str]:
    """The classes of a saved model, without its weights."""
    folder = folder_of(source)
    fields = _read_config(folder)
    if "model_type" in fields:
        return _of_transformers(folder, fields, None)[1]
    return [str(name) for name in fields.get("names", [])]


def save_pretrained(
    model: Network,
    folder: str | Path,
    names: Sequence[str],
    tracker: Mapping[str, Any] | None = None,
    *,
    trained_on: str = "",
    licence: str = "",
    source: str = "",
    labelled_by: str = "",
    overwrite: bool = False,
) -> None:
    """Write a model folder that `load` reads.

    `licence` and `source` are those of the weights that it came from. If the origin is known, a model card
    names it too.
    """
    config = model.config
    if len(names) != config.classes:
        raise UserError(f"{folder}: {len(names)} class names for a model of {config.classes} classes")
    fields = {"model": config.model_dump(mode="json"), "names": list(names), "tracker": dict(tracker or {})}
    found = _notes(trained_on=trained_on, licence=licence, source=source, labelled_by=labelled_by)
    write_folder(folder, model.stored_weights(), fields | found, overwrite=overwrite)
    if found.keys() - {"trained_on"}:
        write_file(Path(folder) / CARD, model_card(config.family, names, found))


def notes(saved: Saved) -> dict[str, str]:
    """The origin of a model in config.json."""
    return _notes(**{note: getattr(saved, note) for note in NOTES})


def notes_of(source: str | Path) -> dict[str, str]:
    """The same for a model that is not loaded."""
    folder = folder_of(source)
    fields = _read_config(folder)
    if "model_type" in fields:
        return _notes_of_hub(folder, source)
    return {note: str(fields[note]) for note in NOTES if note in fields}


def _notes(**notes: str) -> dict[str, str]:
    return {name: note for name, note in notes.items() if note}


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
    folder = folder_of(source)
    state, own = _state_of(folder), model.state_dict()
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


def folder_of(source: str | Path) -> Path:
    """Where a model lies on this disk; one of the hub is downloaded once."""
    if Path(source).is_dir():
        return _of_run(Path(source))
    if isinstance(source, str) and source in bundled():
        return BUNDLED / source
    if isinstance(source, str) and (hub_id := hub.hub_id(source)):
        return hub.download(hub_id)
    names = ", ".join(bundled()) or "none"
    raise UserError(
        f"model {source}: neither a folder, a bundled name ({names}), a short name of `ookd models` nor "
        "a hub id (owner/name)"
    )


def _of_run(folder: Path) -> Path:
    """The model folder of a training run: its best model, or the last if none was validated."""
    places = [folder, folder / "best", folder / "model"]
    return next((place for place in places if (place / CONFIG).is_file()), folder)


def _read(folder: Path, source: str | Path, classes: Sequence[str] | None) -> Saved:
    """The folder's model with random weights. `source` is the name that the user gave."""
    path, fields = folder / CONFIG, _read_config(folder)
    if "model_type" in fields:
        return _read_transformers(folder, fields, source, classes)
    config = _model_config(folder, fields)
    found = checked(fields, ModelFolder, path)
    if len(found.names) != config.classes:
        raise UserError(f"{path}: names must be a list of {config.classes} class names")
    notes = {note: getattr(found, note) for note in NOTES}
    return Saved(build(config), found.names, found.tracker, **notes)


def _read_transformers(
    folder: Path, fields: Mapping[str, Any], source: str | Path, classes: Sequence[str] | None
) -> Saved:
    """The same for a folder that `transformers` wrote."""
    config, names = _of_transformers(folder, fields, classes)
    constants = {**family_named(config.family).published_constants(names), **fields.get("tracker", {})}
    return Saved(build(config), names, constants, **_notes_of_hub(folder, source))


def _notes_of_hub(folder: Path, source: str | Path) -> dict[str, str]:
    """Whence a folder comes that `transformers` wrote, and its licence."""
    hub_id = None if Path(source).is_dir() else hub.hub_id(str(source))
    if hub_id is None:
        return {"licence": licence_in(folder)}
    licence = known_licence(hub_id) or licence_in(folder)
    return {"licence": licence, "source": hub.pinned(hub_id, folder)}


def _of_transformers(
    folder: Path, fields: Mapping[str, Any], classes: Sequence[str] | None
) -> tuple[ModelConfig, list[str]]:
    """The configuration and class names of a folder that `transformers` wrote."""
    if classes is not None:
        fields = {**fields, "id2label": dict(enumerate(classes))}
    try:
        return hub.read_config(fields)
    except pydantic.ValidationError as error:
        wrong = error.errors()[0]
        reason = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
    except UserError as error:
        reason = str(error)
    raise UserError(f"{folder / CONFIG}: {reason}")


def _state_of(folder: Path) -> Mapping[str, Tensor]:
    """The weights of a folder under the names of our modules."""
    fields = _read_config(folder) if (folder / CONFIG).is_file() else {}
    if "model_type" in fields:
        config: ModelConfig = _of_transformers(folder, fields, None)[0]
    elif "model" in fields:
        config = _model_config(folder, fields)
    else:
        return _read_weights(folder)  # a backbone
    with torch.device("meta"):
        empty = build(config)
    state = empty.own_weights(_read_weights(folder))
    return {name: tensor for name, tensor in state.items() if not tensor.is_meta}


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
