"""Which eye a photograph shows by its optic disc: the weights of `service.intake.disc`, and how often the answer is right.

``python -m training.retina.laterality`` writes ``docs/results/retina_laterality.json`` and ``.md``. EyePACS says which eye each
photograph shows, IDRiD where the disc is. Patients are in two halves by a hash of their name, IDRiD in its official parts: one
gives weights and limit, on the other all figures are measured. `service.intake.disc.WEIGHTS`, `TURNED` and
`service.pipeline.laterality.LEAST_CONFIDENCE` repeat those of the JSON, which a test checks.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import expit, logsumexp  # type: ignore[import-untyped]
from tqdm import tqdm

from models.preprocessing import Field, crop_square, fundus_field
from service.intake import disc, fundus_quality
from service.pipeline.laterality import LEAST_ASIDE
from training import metrics
from training.bundles import today
from training.data import ROOT, fold_of, shared_data
from training.retina.laterality_page import page

RESULT = ROOT / "docs" / "results" / "retina_laterality.json"
NATURAL, EQUALISED, IDRID = "EyePACS, natural", "EyePACS, equalised", "IDRiD, lesion images"
TABLES = {
    NATURAL: ("eyepacs/raw_pairs.csv", "eyepacs/raw_pairs_512.zip"),
    EQUALISED: ("eyepacs/labels.csv", "eyepacs/equalised_256.zip"),
    IDRID: ("idrid/lesions.csv", "idrid/lesions.zip"),
}
LIMITS = (0.8, 0.9, 0.95, 0.98, 0.99)
LEAST_RIGHT = 0.995
"""The limit is the smallest of `LIMITS` from which on so many answers of the learning half are right."""
BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
_PENALTY = 1e-3
_START = {"red": 0.5, "upright_vessels": 1.0, "green 0 0": 0.5}


@dataclass(frozen=True)
class Example:
    """One photograph.

    Attributes
    ----------
    set : str
        Of `TABLES`.
    patient : str
    learning : bool
        Whether its half gives weights and limit.
    eye : str
        R or L; empty where the set does not say.
    disc : tuple of float or None
        x, y and diameter of the drawn disc, in radii from the centre of the field.
    seen : ndarray, float32, shape (4, RASTER, RASTER)
        `service.intake.disc.maps`.
    gradable : bool
        Verdict of the quality gate; the equalised copies, which it was not made for, all count.
    """

    set: str
    patient: str
    learning: bool
    eye: str
    disc: tuple[float, float, float] | None
    seen: np.ndarray
    gradable: bool


# -- reading ----------------------------------------------------------------------------------------------------------------


def examples(data: Path, every: int = 1) -> Iterator[Example]:
    """All photographs, of the equalised copies one in `every`."""
    for name, (table, archive) in TABLES.items():
        with (data / table).open(encoding="utf-8") as stream, zipfile.ZipFile(data / archive) as opened:
            rows = list(csv.DictReader(stream))[:: every if name == EQUALISED else 1]
            members = set(opened.namelist())
            for row in tqdm(rows, name, mininterval=2):
                photograph = _read(opened, row["file"])
                field = fundus_field(photograph)
                if field is None:
                    continue
                drawn = row["file"].replace(".jpg", "_OD.png") if name == IDRID else ""
                yield Example(
                    name,
                    row.get("patient", row["file"]),
                    fold_of(row["patient"], 2) == 0 if name != IDRID else row["file"].startswith("train/"),
                    {"right": "R", "left": "L"}.get(row.get("eye", ""), ""),
                    outline(_read(opened, drawn), field) if drawn in members else None,
                    disc.maps(crop_square(photograph, field.box, disc.SIZE_PX)),
                    name == EQUALISED or fundus_quality.assess(photograph).gradable,
                )


def _read(opened: zipfile.ZipFile, member: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(opened.read(member))).convert("RGB"))


def outline(mask: np.ndarray, field: Field) -> tuple[float, float, float] | None:
    """Centre (x, y) and diameter of the circle of equal area of what is drawn, in radii from the centre of the field."""
    rows, columns = np.nonzero(mask.max(axis=2))
    if not len(rows):
        return None
    x, y = columns.mean() + 0.5 - field.x, rows.mean() + 0.5 - field.y
    return float(x / field.radius), float(y / field.radius), float(2 * np.sqrt(len(rows) / np.pi) / field.radius)


# -- learning ---------------------------------------------------------------------------------------------------------------


def hypotheses(example: Example) -> np.ndarray:
    """What is known of a photograph: bool, shape (4, RASTER, RASTER), the views and places of the disc that it allows."""
    allowed = np.ones((len(disc.VIEWS), disc.RASTER, disc.RASTER), bool)
    if example.eye:
        allowed[[1, 3] if example.eye == "R" else [0, 2]] = False
    if example.disc is not None:  # nobody says which eye these are, but none is upside down
        x, y, diameter = example.disc
        at = disc.places()
        allowed &= np.hypot(at[None] - x, at[:, None] - y) < diameter / 2
        allowed[2:] = False
    return allowed


def loss(parameters: np.ndarray, seen: np.ndarray, allowed: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of -log P(what is known), with its gradient.

    Parameters
    ----------
    parameters : ndarray, shape (features + 1,)
        Weights, and the log-odds of a photograph that is upside down.
    seen : ndarray, float32, shape (n, 4, features, places)
        See `in_views`.
    allowed : ndarray, bool, shape (n, 4, places)
    """
    weights, turned = parameters[:-1].astype(np.float32), float(expit(parameters[-1]))
    score = (weights @ seen).astype(np.float64) + np.log([1 - turned, 1 - turned, turned, turned])[:, None]
    known = np.where(allowed, score, -np.inf)
    whole, part = (logsumexp(each, axis=(1, 2), keepdims=True) for each in (score, known))
    excess = (np.exp(score - whole) - np.exp(known - part)) / len(score)
    slope = (seen @ excess.astype(np.float32)[..., None])[..., 0].sum((0, 1))
    prior = float((excess.sum((0, 2)) * (np.array([0, 0, 1, 1]) - turned)).sum())
    value = float((whole - part).mean() + _PENALTY * (parameters[:-1] ** 2).sum())
    return value, np.append(slope + 2 * _PENALTY * parameters[:-1], prior)


def in_views(seen: np.ndarray) -> np.ndarray:
    """`disc.features` of every view at `_places`; (4, RASTER, RASTER) to (4, features, places)."""
    return np.stack([np.flip(disc.features(np.flip(seen, axes)), axes)[:, _places()] for axes in disc.VIEWS])


def _places() -> np.ndarray:
    """Every second row and column inside the field: enough to learn from."""
    inside = disc.in_field()
    inside[1::2], inside[:, 1::2] = False, False
    return inside


def learn(learning: Sequence[Example]) -> tuple[list[float], float]:
    """Weights and share of photographs upside down of greatest likelihood, with a small penalty on the weights' squares."""
    seen = np.stack([in_views(example.seen) for example in learning])
    allowed = np.stack([hypotheses(example)[:, _places()] for example in learning])
    start = np.array([*(_START.get(name, 0.0) for name in disc.FEATURES), -1.0])
    best = minimize(loss, start, (seen, allowed), "L-BFGS-B", jac=True, options={"maxiter": 100}).x
    turned = max(round(float(expit(best[-1])), 3), 0.001)
    return [round(float(value), 2) + 0.0 for value in best[:-1]], turned


# -- measuring --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What the disc says of some photographs of which the eye is known."""

    patient: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    """Whether the likelier eye is the true one."""
    x: np.ndarray
    """Likeliest place of the disc, see `disc.Disc`."""
    sided: np.ndarray
    """Whether the half of the photograph in which the disc lies is that of the true eye: what position alone would say."""


def answers(of: Sequence[tuple[Example, disc.Disc]]) -> Answers:
    """Collect them."""
    true = np.array([example.eye == "R" for example, _ in of])
    right, x = (np.array([getattr(found, name) for _, found in of]) for name in ("right", "x"))
    patients = np.array([example.patient for example, _ in of])
    return Answers(patients, np.maximum(right, 1 - right), (right >= 0.5) == true, x, (x > 0) == true)


def limit(found: Answers) -> float:
    """The smallest of `LIMITS` from which on `LEAST_RIGHT` of the answers are right; 1 where there is none.

    A disc in the middle gives no answer, see `LEAST_ASIDE`.
    """
    aside = np.abs(found.x) >= LEAST_ASIDE
    fitting = [
        least
        for least in LIMITS
        if (sure := aside & (found.confidence >= least)).any() and found.right[sure].mean() >= LEAST_RIGHT
    ]
    return min(fitting, default=1.0)


def figures(found: Answers, least: float) -> dict[str, Any]:
    """Shares with 95 % intervals by bootstrap of whole patients."""
    draws, middle = metrics.resample(found.patient), np.abs(found.x) < LEAST_ASIDE
    probable = found.confidence >= least
    sure = probable & ~middle
    return {
        "n": len(found.right),
        "patients": len(np.unique(found.patient)),
        "accuracy": metrics.summary(draws.share(found.right)),
        "accuracy_by_half": metrics.summary(draws.share(found.sided)),
        "answered": metrics.summary(draws.share(sure)),
        "accuracy_answered": metrics.summary(draws.share(found.right, sure)),
        "n_answered": int(sure.sum()),
        "wrong_answered": int((sure & ~found.right).sum()),
        "middle": {
            "n": int(middle.sum()),
            "right": int((middle & found.right).sum()),
            "probable": int((middle & probable).sum()),
            "right_probable": int((middle & probable & found.right).sum()),
        },
        "reliability": [
            {
                "from": low,
                "to": high,
                "n": int(here.sum()),
                "confidence": float(found.confidence[here].mean()),
                "right": int(found.right[here].sum()),
            }
            for low, high in pairwise(BINS)
            if (here := (found.confidence >= low) & ((found.confidence < high) | (high == 1))).any()
        ],
    }


def place_figures(of: Sequence[tuple[Example, disc.Disc]], least: float) -> dict[str, Any]:
    """How far the likeliest place is from the centre of the drawn disc, in its diameters.

    And where it is drawn beside the middle: how often the eye is answered, and is that of the half in which the disc is drawn.
    """
    away = np.array(
        [
            np.hypot(found.x - example.disc[0], found.y - example.disc[1]) / example.disc[2]
            for example, found in of
            if example.disc is not None
        ]
    )
    median, ninth, worst = np.quantile(away, [0.5, 0.9, 1.0])
    aside = [
        (found.right >= 0.5) == (example.disc[0] > 0)
        for example, found in of
        if example.disc is not None
        and min(abs(example.disc[0]), abs(found.x)) >= LEAST_ASIDE
        and max(found.right, 1 - found.right) >= least
    ]
    return {
        "n": len(away),
        "inside": int((away < 0.5).sum()),
        "median": float(median),
        "q90": float(ninth),
        "worst": float(worst),
        "answered": len(aside),
        "agreeing": sum(aside),
    }


def measure(found: Sequence[Example]) -> dict[str, Any]:
    """Learn on one half, measure on the other."""
    weights, turned = learn([example for example in found if example.learning and example.gradable])
    pairs = [(example, disc.judge(example.seen, weights, turned)) for example in found]

    def some(name: str, learning: bool, gradable: bool = True) -> list[tuple[Example, disc.Disc]]:
        return [
            pair
            for pair in pairs
            if (pair[0].set, pair[0].learning) == (name, learning) and pair[0].gradable >= gradable
        ]

    learnt = answers(some(NATURAL, True) + some(EQUALISED, True))
    least = limit(learnt)
    return {
        "date": today(),
        "weights": dict(zip(disc.FEATURES, weights, strict=True)),
        "turned": turned,
        "limit": least,
        "middle_learning": figures(learnt, least)["middle"],
        "learning": {
            name: {"n": len(some(name, True)), "patients": len({one.patient for one, _ in some(name, True)})}
            for name in TABLES
        },
        "measured": {name: figures(answers(some(name, False)), least) for name in (NATURAL, EQUALISED)},
        "refused": {
            name: sum(not example.gradable for example, _ in some(name, False, gradable=False)) for name in TABLES
        },
        "place": {
            part: place_figures(some(IDRID, learning, gradable=False), least)
            for part, learning in (("train", True), ("test", False))
        },
    }


def milliseconds(data: Path) -> float:
    """Median processor time of one search, of five, in the largest copy of a photograph that the service looks at."""
    with Image.open(data / "idrid" / "original" / "IDRiD_003.jpg") as image:
        image.thumbnail((2048, 2048))
        photograph = np.asarray(image.convert("RGB"))
    field = fundus_field(photograph)
    assert field is not None
    taken = []
    for _ in range(5):
        begin = time.process_time()
        disc.find(photograph, field)
        taken.append(1000 * (time.process_time() - begin))
    return float(np.median(taken))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.retina.laterality", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="of the equalised photographs one in so many")
    parser.add_argument("--result", type=Path, default=RESULT, help="JSON file; the page is written beside it")
    given = parser.parse_args(arguments)
    data = shared_data()
    found = {**measure(list(examples(data, given.every))), "every": given.every, "ms": milliseconds(data)}
    given.result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    given.result.with_suffix(".md").write_text(page(found), encoding="utf-8")
    print(f"weights {tuple(found['weights'].values())}, turned {found['turned']}, limit {found['limit']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
