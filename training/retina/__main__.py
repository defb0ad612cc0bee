"""`python -m training.retina prepare|train|evaluate|export|study|compare|gallery`."""

from __future__ import annotations

import sys
from pathlib import Path

from training import commands
from training.data import ROOT, shared_data
from training.retina import comparison_page, gallery, study
from training.retina.data import prepare
from training.retina.export import NAME, export
from training.retina.lesions import left_out
from training.retina.networks import MEMBERS, PRETRAINING, perform_all
from training.retina.train import Plan

RESULTS = ROOT / "docs" / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = commands.parser("retina")
    choice = parser.add_subparsers(dest="command", required=True)
    prepares = choice.add_parser("prepare", help="read the data sets and write the prepared arrays")
    for name in ("eyepacs", "aptos", "idrid"):
        prepares.add_argument(f"--{name}", type=Path, help=f"folder of the official {name} download")
    trains = choice.add_parser("train", help="train the ensemble's members, or go on with them")
    commands.plan_options(trains, Plan())
    names = [PRETRAINING, *(member.name for member in MEMBERS)]
    trains.add_argument("--only", nargs="+", default=[], choices=names, help="some of the networks")
    trains.add_argument("--workers", type=int, default=0, help="trainings side by side (default: one a processor)")
    choice.add_parser("evaluate", help="print the figures of the exported bundle")
    commands.export_options(
        choice.add_parser("export", help="write the bundle: graph, figures, operating points, card")
    )
    studies = choice.add_parser(
        "study", help="train other networks and recipes on the same photographs, into docs/results"
    )
    studies.add_argument(
        "--only", nargs="+", default=[], choices=list(study.VARIANTS), help="some of them; the others keep their rows"
    )
    choice.add_parser("compare", help="hold the maps of all methods against the drawn lesions, into docs/results")
    choice.add_parser("gallery", help="draw rightly and wrongly graded photographs of every grade, into docs/images")
    given = parser.parse_args(arguments)
    if given.command == "prepare":
        prepare(given.data, eyepacs=given.eyepacs, aptos=given.aptos, idrid=given.idrid)
    elif given.command == "train":
        perform_all(given.data, commands.planned(given, Plan()), given.only, given.workers)
    elif given.command == "export":
        commands.show(export(given.data, Plan(), given.rule, given.start, given.note))
    elif given.command == "study":
        study.perform(given.data, RESULTS, Plan(), given.only)
    elif given.command == "compare":
        held = left_out(shared_data(), [member.folds for member in MEMBERS])
        comparison_page.write(RESULTS, commands.shipped(NAME).weights, held)
    elif given.command == "gallery":
        gallery.write(RESULTS, commands.shipped(NAME))
    else:
        commands.show(commands.shipped(NAME))
    return 0


if __name__ == "__main__":
    sys.exit(main())
