"""`python -m training.lung prepare|train|evaluate|export|report|compare|shift`."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

from training import commands
from training.data import ROOT
from training.lung import comparison_page, shift
from training.lung.data import load, prepare
from training.lung.export import NAME, export
from training.lung.networks import TASKS, perform_all
from training.lung.report import report
from training.lung.train import Plan
from training.response_maps.onnx_graph import read_members

RESULTS = ROOT / "docs" / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = commands.parser("lung")
    choice = parser.add_subparsers(dest="command", required=True)
    prepares = choice.add_parser("prepare", help="read the data set and write the prepared arrays")
    prepares.add_argument(
        "--lidc", type=Path, help="folder of the official LIDC-IDRI download, instead of ../shared/data"
    )
    trains = choice.add_parser(
        "train", help="train the ensemble's members and the networks of the report, or go on with them"
    )
    commands.plan_options(trains, Plan())
    trains.add_argument(
        "--only", nargs="+", default=[], choices=[task.name for task in TASKS], help="some of the networks"
    )
    trains.add_argument("--workers", type=int, default=0, help="trainings side by side (default: one a processor)")
    choice.add_parser("evaluate", help="print the figures of the exported bundle")
    commands.export_options(
        choice.add_parser("export", help="write the bundle: graph, figures, operating points, card")
    )
    reports = choice.add_parser("report", help="write the protocol's tables and figures into docs/results")
    reports.add_argument("--hardware", default="not stated", help="what the trainings ran on, for the cost table")
    choice.add_parser("compare", help="hold the maps of all methods against the readers' contours, into docs/results")
    choice.add_parser("shift", help="measure what 8-bit training slices and a CT in HU differ in, into docs/results")
    given = parser.parse_args(arguments)
    if given.command == "prepare":
        prepare(given.data, given.lidc)
    elif given.command == "train":
        perform_all(given.data, commands.planned(given, Plan()), given.only, given.workers)
    elif given.command == "export":
        commands.show(export(given.data, Plan(), given.rule, given.start, given.note))
    elif given.command == "report":
        for path in report(load(given.data).nodules, given.data, RESULTS, given.hardware):
            print(path)
    elif given.command == "compare":
        members, prior = read_members(onnx.load(commands.shipped(NAME).weights))
        comparison_page.write(RESULTS, members, prior, load(given.data))
    elif given.command == "shift":
        shift.write(commands.shipped(NAME).weights)
    else:
        commands.show(commands.shipped(NAME))
    return 0


if __name__ == "__main__":
    sys.exit(main())
