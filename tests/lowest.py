"""Prints the oldest versions that pyproject.toml allows as constraints for pip, but of packages named."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
given = [*project["dependencies"], *project["optional-dependencies"]["export"]]
for requirement in dict.fromkeys(given):
    name, version, marker = re.fullmatch(r"([\w.-]+)>=([\w.]+)(;.*)?", requirement).groups()  # type: ignore[union-attr]
    if name not in sys.argv[1:] and not marker:
        print(f"{name}=={version}.*")
