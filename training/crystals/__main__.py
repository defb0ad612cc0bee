"""`python -m training.crystals prepare|train|robustness|transitions|landmarks|speed|report|volumes`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from training import commands
from training.bundles import commit, today
from training.crystals import data, elements, landmarks, plots, robustness, speed, transitions
from training.crystals.page import page
from training.crystals.train import TASKS, Plan, summary, train_all
from training.data import ROOT, shared_data

EXPERIMENTS = ROOT / "docs" / "experiments"


def keep(folder: Path, name: str, found: dict[str, Any]) -> None:
    """Put one part's figures, with date, commit and command, into ``crystals.json``; the other parts stay."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "crystals.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results[name] = {"date": today(), "commit": commit(), "command": f"python -m training.crystals {name}", **found}
    rounded = json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.5g}"))
    path.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")


def report(folder: Path) -> list[Path]:
    """Write the page and its curves from ``crystals.json``; returns the files' paths."""
    results = json.loads((folder / "crystals.json").read_text(encoding="utf-8"))
    figures = plots.draw_curves(results, folder)
    path = folder / "crystals.md"
    path.write_text(page(results), encoding="utf-8")
    return [path, *figures]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = commands.parser("crystals")
    parser.add_argument("--out", type=Path, default=EXPERIMENTS, help="folder of the figures and the page")
    choice = parser.add_subparsers(dest="command", required=True)
    choice.add_parser("volumes", help="write volumes.json from the CIF files in ../shared/data/crystals")
    choice.add_parser("prepare", help="compute the fingerprints of all training structures, or the missing ones")
    trains = choice.add_parser("train", help="train the networks, or go on from the last checkpoints")
    commands.plan_options(trains, Plan())
    trains.add_argument("--only", nargs="+", default=[], choices=[task.name for task in TASKS], help="some of them")
    table = choice.add_parser("robustness", help="measure table 3.2, or what is missing of it")
    commands.plan_options(table, robustness.Plan())
    table.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    choice.add_parser("transitions", help="measure figs. 3.4b and 3.4d")
    choice.add_parser("landmarks", help="measure and draw fig. 3.5")
    choice.add_parser("speed", help="measure the cost of one structure; nothing else should run")
    choice.add_parser("report", help="write the page from what was measured")
    given = parser.parse_args(arguments)
    if given.command == "volumes":
        found = elements.read_volumes(shared_data() / "crystals")
        elements.VOLUMES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    elif given.command == "prepare":
        data.prepare(given.data)
    elif given.command == "train":
        train_all(given.data, commands.planned(given, Plan()), given.only)
        keep(given.out, "train", summary(given.data))
    elif given.command == "robustness":
        plan = commands.planned(given, robustness.Plan())
        robustness.answer_all(given.data, plan, given.workers)
        keep(given.out, "robustness", robustness.measure(given.data, plan))
    elif given.command == "transitions":
        keep(given.out, "transitions", transitions.measure(given.data))
    elif given.command == "landmarks":
        plots.draw_pictures(landmarks.pictures(given.data), given.out)
        keep(given.out, "landmarks", landmarks.measure(given.data))
    elif given.command == "speed":
        keep(given.out, "speed", speed.measure(given.data))
    else:
        for path in report(given.out):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
