"""What commands on strangers' files have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.data_and_model import write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, which commands only read."""
    return write_model(tmp_path_factory.mktemp("model") / "model")
