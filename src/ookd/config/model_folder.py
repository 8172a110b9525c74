"""What the config.json of a model folder holds, trained or exported, checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from ookd import limits
from ookd.errors import UserError

Record = TypeVar("Record", bound=BaseModel)


def _shown(name: str) -> str:
    if not name or not name.isprintable() or limits.CLASS_NAME.exceeded(len(name)):
        raise ValueError("a class name is a short text without control characters")
    return name


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError(f"{max(names, key=names.count)} appears twice; class names must differ")
    return names


FileName = Annotated[str, Field(pattern=r"^[\w\-]+(\.\w+)+$")]
ClassName = Annotated[str, AfterValidator(_shown)]


class ModelFolder(BaseModel):
    """The content of config.json."""

    model: dict[str, Any]  # the configuration, of which "family" says the type
    names: Annotated[list[ClassName], Field(min_length=1), AfterValidator(_different)]
    tracker: dict[str, Any] = {}  # constants that differ from the family's
    trained_on: str = ""
    licence: str = ""
    source: str = ""
    labelled_by: str = ""


def checked(fields: Mapping[str, Any], record: type[Record], path: Path, hint: str = "") -> Record:
    """The fields of a JSON file as a record; the first that is wrong raises, with a hint what to do."""
    try:
        return record.model_validate(fields)
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply{hint}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"{path}: {where}: {first['msg']}{hint}") from None
