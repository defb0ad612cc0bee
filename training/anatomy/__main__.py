"""`python -m training.anatomy prepare|train|evaluate|report`."""

from __future__ import annotations

import sys
from pathlib import Path

from training import commands
from training.anatomy.data import AXES, SETS, load, prepare
from training.anatomy.evaluate import write
from training.anatomy.networks import VARIANTS, train_all
from training.anatomy.report import report
from training.data import ROOT

RESULTS = ROOT / "docs" / "experiments"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = commands.parser("anatomy")
    parser.add_argument("--set", choices=SETS, default="mednist", help="which images")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of anatomy.json and of the page")
    choice = parser.add_subparsers(dest="command", required=True)
    prepares = choice.add_parser("prepare", help="read the set and write the prepared arrays")
    prepares.add_argument("--folder", type=Path, help="folder of the official files; MedNIST needs none")
    prepares.add_argument(
        "--axes", default="".join(AXES), help="axes of the IRMA code that make a class (default: all)"
    )
    trains = choice.add_parser("train", help="train the three networks, or go on with them")
    trains.add_argument("--only", nargs="+", default=[], choices=list(VARIANTS), help="some of the networks")
    choice.add_parser("evaluate", help="measure the networks and draw their maps, into docs/experiments")
    choice.add_parser("report", help="write the page and its curves from the figures")
    given = parser.parse_args(arguments)
    folder = given.data / given.set
    if given.command == "prepare":
        anatomy = prepare(given.set, given.data, given.folder, given.axes)
        print(
            f"{given.set}: {len(anatomy.labels)} images, {int(anatomy.test.sum())} for the test; {', '.join(anatomy.classes)}"
        )
    elif given.command == "train":
        train_all(load(given.set, given.data), folder, given.only)
    elif given.command == "evaluate":
        write(given.set, load(given.set, given.data), folder, given.results)
    else:
        for path in report(given.results):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
