"""`python -m training.digits train|evaluate|report`."""

from __future__ import annotations

import sys
from pathlib import Path

from training import commands
from training.data import ROOT
from training.digits.data import SETS, load
from training.digits.evaluate import write
from training.digits.report import report
from training.digits.train import NETWORKS, Plan, train
from training.plotting import percent

RESULTS = ROOT / "docs" / "experiments"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = commands.parser("digits")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of digits.json and of the page")
    choice = parser.add_subparsers(dest="command", required=True)
    trains = choice.add_parser("train", help="train, or go on from the last checkpoint")
    evaluates = choice.add_parser(
        "evaluate", help="score the test set, table 5.3 and the galleries, into docs/experiments"
    )
    for command in (trains, evaluates):
        command.add_argument("--set", choices=SETS, default="mnist", help="which digits")
        command.add_argument("--folder", type=Path, help="folder of the official files; MNIST needs none")
    commands.plan_options(trains, Plan())
    evaluates.add_argument("--images", type=int, default=0, help="test images for table 5.3 (default: all)")
    choice.add_parser("report", help="write the page and its curves from the figures")
    given = parser.parse_args(arguments)
    if given.command == "report":
        for path in report(given.results):
            print(path)
        return 0
    prepared, run = load(given.set, given.folder), given.data / given.set
    if given.command == "train":
        train(prepared.train, prepared.held, NETWORKS[given.set], run, commands.planned(given, Plan()))
    else:
        found = write(given.set, prepared, run, given.results, given.images)
        print(
            f"{given.set}: {percent(found[given.set]['test']['value'])} of {found[given.set]['test']['n']} test images"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
