"""A model folder on the Hugging Face hub, with a model card."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from ookd import untrusted
from ookd.errors import UserError
from ookd.files import write_file
from ookd.models import hub, zoo
from ookd.models.licence import CARD, UNKNOWN

SHOWN = 100  # classes that a card lists


def push_to_hub(
    model: str | Path, repository: str, *, licence: str | None = None, about: str = "", private: bool = False
) -> str:
    """Upload your model as `owner/name`, where `ookd.load` finds it; returns its address.

    `model` is a model folder or a run. `licence` is that under which others may use it (apache-2.0,
    cc-by-4.0, ...); weights from elsewhere keep theirs. `about` is a line for the model card. Log in with `hf
    auth login` first.
    """
    from huggingface_hub import HfApi, constants, errors

    if not hub.is_hub_id(repository) or "@" in repository:
        raise UserError(f"{repository}: write owner/name")
    folder = zoo.folder_of(model)
    kept = zoo.notes_of(folder).get("licence", "")
    if kept == UNKNOWN or (kept and licence not in (None, kept)):
        raise UserError(
            f"{model}: its weights came under the licence {kept}, which stays; others cannot be given"
        )
    if not (kept or licence):
        raise UserError(f"{model}: name the licence for others, such as licence='apache-2.0'")
    with TemporaryDirectory() as name:
        place = Path(name)
        for file in (zoo.CONFIG, zoo.WEIGHTS):
            write_file(place / file, untrusted.read_bytes(folder / file))
        write_file(place / CARD, card(folder, repository, kept or str(licence), about))
        try:
            api = HfApi(endpoint=constants.ENDPOINT)
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=place, commit_message="A model of ookd")
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{repository}: cannot be uploaded; `hf auth login` first ({reason})") from None
    return f"{constants.ENDPOINT}/{repository}"


def card(folder: Path, repository: str, licence: str, about: str = "") -> str:
    """The model's page on the hub, which names its licence, its classes and how to use it."""
    notes, names = zoo.notes_of(folder), zoo.names_of(folder)
    source = notes.get("source", "").partition("@")[0]
    head = {
        "license": licence,
        "library_name": "ookd",
        "pipeline_tag": "image-segmentation",
        "tags": ["video-instance-segmentation", "tracking", "ookd"],
        **({"base_model": source} if source else {}),
    }
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    trained = f"\nIt has learned from {notes['trained_on']} alone.\n" if "trained_on" in notes else ""
    return (
        "---\n"
        + "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items())
        + f"---\n\n# {repository.partition('/')[2]}\n\n"
        + (f"{about}\n\n" if about else "")
        + f"A model of the family `{zoo.config_of(folder).family}` for online video instance segmentation.\n"
        + f"\nClasses: {', '.join(names[:SHOWN])}{more}.\n{trained}\n"
        + f'```python\nimport ookd\n\nfor result in ookd.track("video.mp4", model="{repository}"):\n'
        + "    print(result)\n```\n"
    )
