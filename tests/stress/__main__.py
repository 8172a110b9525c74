"""Long trials of whole commands: `python tests/stress fuzz` (or kill, disk, soak). Tests run short ones."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stress import disk, fuzz, kill, soak

TRIALS = {"fuzz": fuzz, "kill": kill, "disk": disk, "soak": soak}


def main() -> int:
    parser = ArgumentParser("python tests/stress", description=__doc__)
    trials = parser.add_subparsers(dest="trial", required=True)
    for name, trial in TRIALS.items():
        text = str(trial.__doc__)
        trial.options(trials.add_parser(name, help=text.partition("\n")[0], description=text))
    given = parser.parse_args()
    return TRIALS[given.trial].run(given)


sys.exit(main())
