"""The command line that every experiment has: ``python -m training.<experiment> prepare|train|evaluate|export``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from models import bundle as bundles
from training.data import ROOT
from training.response_maps.reference import Rule, Start


@dataclass(frozen=True)
class Experiment:
    """What the command line calls; folders are under ``runs/<name>`` unless given."""

    name: str
    bundle: str
    plan: Any
    prepare: Callable[[Path], None]
    train: Callable[[Path, Path, Any], None]
    export: Callable[..., bundles.Bundle]


def _show(bundle: bundles.Bundle) -> None:
    for entry in bundle.description["metrics"]:
        low, high = entry["interval"]
        figure = f"{entry['value']:.3f}  [{low:.3f}, {high:.3f}]  n={entry['n']:<4d} {entry['name']}"
        print(f"{figure} | {entry['data_set']}, {entry['split']}")
    for entry in bundle.description["evidence"]:
        null = f" (null {entry['null']:.3f})" if "null" in entry else ""
        print(f"{entry['value']:.3f}{null}  n={entry['n']:<4d} {entry['name']} | {entry['data_set']}")


def main(experiment: Experiment, arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m training.{experiment.name}", description=f"Experiment {experiment.name}."
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT / "runs" / experiment.name, help="folder of the prepared arrays"
    )
    parser.add_argument("--run", type=Path, default=None, help="folder of the checkpoint and log (default: DATA/run)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="read the data sets and write the prepared arrays")
    train = commands.add_parser("train", help="train, or go on from the last checkpoint")
    for field in fields(experiment.plan):
        if isinstance(field.default, int | float):
            train.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    commands.add_parser("evaluate", help="print the figures of the exported bundle")
    export = commands.add_parser("export", help="write the bundle: graph, figures, operating points, card")
    export.add_argument("--rule", choices=get_args(Rule), default="guided")
    export.add_argument("--start", choices=get_args(Start), default="contrast")
    export.add_argument("--note", default="", help="how the training differed from the plan; goes into the card")
    given = parser.parse_args(arguments)
    run = given.run or given.data / "run"
    if given.command == "prepare":
        experiment.prepare(given.data)
    elif given.command == "train":
        values = {f.name: getattr(given, f.name) for f in fields(experiment.plan) if hasattr(given, f.name)}
        experiment.train(given.data, run, type(experiment.plan)(**values))
    elif given.command == "export":
        _show(experiment.export(given.data, run, experiment.plan, given.rule, given.start, given.note))
    else:
        _show(bundles.load(ROOT / "models" / experiment.bundle))
    return 0
