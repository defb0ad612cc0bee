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


def shipped(name: str) -> bundles.Bundle:
    """The exported bundle."""
    return bundles.load(ROOT / "models" / name)


def show(bundle: bundles.Bundle) -> None:
    """Print a bundle's figures."""
    for entry in bundle.description["metrics"]:
        low, high = entry["interval"]
        figure = f"{entry['value']:.3f}  [{low:.3f}, {high:.3f}]  n={entry['n']:<4d} {entry['name']}"
        print(f"{figure} | {entry['data_set']}, {entry['split']}")
    for entry in bundle.description["evidence"]:
        null = f" (null {entry['null']:.3f})" if "null" in entry else ""
        print(f"{entry['value']:.3f}{null}  n={entry['n']:<4d} {entry['name']} | {entry['data_set']}")


def parser(name: str) -> argparse.ArgumentParser:
    """A parser with the option that every command has."""
    made = argparse.ArgumentParser(prog=f"python -m training.{name}", description=f"Experiment {name}.")
    made.add_argument("--data", type=Path, default=ROOT / "runs" / name, help="folder of the prepared arrays")
    return made


def plan_options(command: argparse.ArgumentParser, plan: Any) -> None:
    """One option a number of a training's plan."""
    for field in fields(plan):
        if isinstance(field.default, int | float):
            command.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)


def planned(given: argparse.Namespace, plan: Any) -> Any:
    """The plan that the options say."""
    return type(plan)(**{f.name: getattr(given, f.name) for f in fields(plan) if hasattr(given, f.name)})


def export_options(command: argparse.ArgumentParser) -> None:
    """Which maps the graph returns, and a note for the card."""
    command.add_argument("--rule", choices=get_args(Rule), default="guided")
    command.add_argument("--start", choices=get_args(Start), default="contrast")
    command.add_argument("--note", default="", help="how the training differed from the plan; goes into the card")


def main(experiment: Experiment, arguments: list[str] | None = None) -> int:
    """Run one command of an experiment that trains one network; returns the exit code."""
    made = parser(experiment.name)
    made.add_argument("--run", type=Path, default=None, help="folder of the checkpoint and log (default: DATA/run)")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="read the data sets and write the prepared arrays")
    plan_options(commands.add_parser("train", help="train, or go on from the last checkpoint"), experiment.plan)
    commands.add_parser("evaluate", help="print the figures of the exported bundle")
    export_options(commands.add_parser("export", help="write the bundle: graph, figures, operating points, card"))
    given = made.parse_args(arguments)
    run = given.run or given.data / "run"
    if given.command == "prepare":
        experiment.prepare(given.data)
    elif given.command == "train":
        experiment.train(given.data, run, planned(given, experiment.plan))
    elif given.command == "export":
        show(experiment.export(given.data, run, experiment.plan, given.rule, given.start, given.note))
    else:
        show(shipped(experiment.bundle))
    return 0
