"""Model bundles: a folder with ``model.onnx``, ``model.json`` and ``CARD.md``, loadable with numpy and ONNX Runtime alone.

`load` refuses a bundle whose description breaks the schema, whose weights have another hash than the description says, or
whose operating points or known cases (`models.cases`) belong to other weights.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from models import cases as known

ROOT = Path(__file__).parent


class BundleError(Exception):
    """A model bundle that must not be used; the message names the bundle, the fault and the way out."""


@dataclass(frozen=True)
class OperatingPoint:
    """A decision threshold with what it does on a named data set."""

    name: str
    score_classes: tuple[str, ...]
    """The score is the sum of these classes' probabilities; it is positive at or above `threshold`."""
    threshold: float
    sensitivity: float
    specificity: float
    n: int
    data_set: str
    default: bool = False

    def score(self, probabilities: dict[str, float]) -> float:
        return float(sum(probabilities[name] for name in self.score_classes))

    def decide(self, probabilities: dict[str, float]) -> bool:
        return self.score(probabilities) >= self.threshold


@dataclass(frozen=True)
class Bundle:
    """A verified model bundle."""

    folder: Path
    description: dict[str, Any]
    cases: known.KnownCases | None = field(default=None, repr=False, compare=False)
    """Public cases with their truth, to compare with; None where the bundle has none."""

    @property
    def name(self) -> str:
        return str(self.description["name"])

    @property
    def version(self) -> str:
        return str(self.description["version"])

    @property
    def sha256(self) -> str:
        return str(self.description["weights"]["sha256"])

    @property
    def task(self) -> str:
        return str(self.description["task"])

    @property
    def weights(self) -> Path:
        return self.folder / str(self.description["weights"]["file"])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return tuple(entry["name"] for entry in self.description["classes"])

    @cached_property
    def colors(self) -> np.ndarray:
        """uint8, shape (N, 3): the colour-blind-safe palette."""
        return np.array(
            [[int(entry["color"][i : i + 2], 16) for i in (1, 3, 5)] for entry in self.description["classes"]], np.uint8
        )

    def answer(self, probabilities: np.ndarray) -> int:
        """Index of the class that the model answers, of probabilities of shape (N,): `quantile_class`, or the most probable."""
        quantile = self.description.get("answer_quantile")
        return int(probabilities.argmax() if quantile is None else quantile_class(probabilities, quantile))

    @property
    def feature_length(self) -> int:
        """Length of the output ``features``."""
        (shape,) = (entry["shape"] for entry in self.description["outputs"] if entry["name"] == "features")
        return int(shape[-1])

    def step(self, name: str) -> dict[str, Any]:
        """Parameters of one preprocessing step."""
        for entry in self.description["input"]["preprocessing"]:
            if entry["step"] == name:
                return dict(entry.get("parameters", {}))
        raise BundleError(f"bundle {self.name} has no preprocessing step {name!r}")

    @cached_property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        return tuple(
            OperatingPoint(
                name=entry["name"],
                score_classes=tuple(entry["score_classes"]),
                threshold=float(entry["threshold"]),
                sensitivity=float(entry["sensitivity"]),
                specificity=float(entry["specificity"]),
                n=int(entry["n"]),
                data_set=entry["data_set"],
                default=bool(entry.get("default", False)),
            )
            for entry in self.description["operating_points"]
        )

    def operating_point(self, name: str | None = None) -> OperatingPoint:
        """The operating point called `name`, or the default one.

        Raises
        ------
        KeyError
            When the bundle has no point of this name.
        """
        for point in self.operating_points:
            if point.name == name or (name is None and point.default):
                return point
        raise KeyError(name)


def quantile_class(probabilities: np.ndarray, quantile: float) -> np.ndarray:
    """The first of ordered classes up to which the probabilities reach a quantile.

    No other class costs less on average where a class too low costs quantile / (1 - quantile) times as much as one too high
    (Koenker & Bassett 1978); with 0.5 it is the median.

    Parameters
    ----------
    probabilities : ndarray, shape (..., N)
    quantile : float
        Above 0, below 1.

    Returns
    -------
    ndarray of int, shape (...)
    """
    reached = probabilities.cumsum(-1) >= quantile * probabilities.sum(-1, keepdims=True)
    return np.asarray(reached.argmax(-1))


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def schema() -> dict[str, Any]:
    """JSON schema of ``model.json``."""
    text = resources.files(__package__).joinpath("schema/model.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def load(folder: Path) -> Bundle:
    """Read and verify one bundle.

    Raises
    ------
    BundleError
        When a file is missing, the description breaks the schema, the hash of weights or known cases is not the stated one,
        an operating point or the cases belong to other weights, or no or several operating points are the default.
    """
    where = f"model bundle {folder.name}"
    try:
        description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{where}: model.json cannot be read ({error}); export the model again") from error
    try:
        jsonschema.validate(description, schema())
    except jsonschema.ValidationError as error:
        raise BundleError(
            f"{where}: model.json at {error.json_path}: {error.message}; export the model again"
        ) from error
    bundle = Bundle(folder, description)
    if bundle.name != folder.name:
        raise BundleError(f"{where}: model.json says its name is {bundle.name!r}; the folder must carry the same name")
    if not bundle.weights.is_file():
        raise BundleError(f"{where}: {bundle.weights.name} is missing; export the model again")
    found = digest(bundle.weights)
    if found != bundle.sha256:
        said = f"has sha256 {found[:12]}..., model.json says {bundle.sha256[:12]}..."
        raise BundleError(f"{where}: {bundle.weights.name} {said}; export the model again")
    foreign = [p["name"] for p in description["operating_points"] if p["weights_sha256"] != found]
    if foreign:
        raise BundleError(
            f"{where}: operating points {foreign} were measured on other weights; evaluate and export the model again"
        )
    if sum(point.default for point in bundle.operating_points) != 1:
        raise BundleError(f"{where}: exactly one operating point must be the default")
    unknown = {c for point in bundle.operating_points for c in point.score_classes} - set(bundle.classes)
    if unknown:
        raise BundleError(f"{where}: operating points name unknown classes {sorted(unknown)}")
    return replace(bundle, cases=_cases(bundle, where)) if "cases" in description else bundle


def _cases(bundle: Bundle, where: str) -> known.KnownCases:
    """The known cases that model.json names, seen to belong to the weights. Raises BundleError."""
    stated = bundle.description["cases"]
    path = bundle.folder / stated["file"]
    if not path.is_file():
        raise BundleError(f"{where}: {path.name} is missing; make the cases again")
    found = digest(path)
    if found != stated["sha256"]:
        said = f"has sha256 {found[:12]}..., model.json says {stated['sha256'][:12]}..."
        raise BundleError(f"{where}: {path.name} {said}; make the cases again")
    try:
        cases = known.read(path)
        known.check(cases, bundle.sha256, bundle.classes, bundle.feature_length)
    except known.CasesError as error:
        raise BundleError(f"{where}: {path.name} {error}; make the cases again") from error
    if len(cases) != stated["n"]:
        raise BundleError(f"{where}: {path.name} holds {len(cases)} cases, model.json says {stated['n']}")
    return cases


def folders(root: Path = ROOT) -> list[Path]:
    """Folders below `root` that hold a model bundle, by name."""
    return sorted(path.parent for path in root.glob("*/model.json"))
