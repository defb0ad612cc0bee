"""`python -m training.cases lung|retina`: the known cases of a bundle (`models.cases`), and what their nearness is worth.

Every case goes through the preprocessing and the exported graph as a new image does in the service.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models import bundle as bundles
from models import cases as known
from models.bundle import Bundle
from models.card import render
from models.preprocessing import fundus_field, fundus_square, nodule_window
from training.bundles import MODELS, Model, today
from training.data import ROOT, assert_apart, shared_data
from training.lung import data as lung
from training.neighbours import INDETERMINATE, lung_evidence, retina_evidence
from training.retina import data as retina

FILE = "cases.npz"
CENTRE = (51.5, 51.5)
"""Of a LIDC crop of 104 x 104 px, (column, row)."""
ATTRIBUTES = (
    "subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation", "spiculation", "texture",
)  # fmt: skip
EYEPACS = {"eyepacs_natural": "EyePACS, natural colour", "eyepacs_equalised": "EyePACS, equalised copy at 256 px"}


@dataclass(frozen=True)
class Entry:
    """One case before it went through the network."""

    id: str
    patient: str
    data_set: str
    split: str
    label: str
    truth: dict[str, Any]


Seen = tuple[Entry, np.ndarray]
"""A case with its network inputs, float32, shape (S, C, H, W)."""


def features(model: Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Feature vector (D,) and probabilities (N,) of one finding, means over its slices as in the service."""
    per_slice, answers = model.run(images, "features", "probabilities")
    return known.mean_feature(per_slice), answers.astype(np.float64).mean(axis=0)


def known_cases(bundle: Bundle, cases: Iterable[Seen]) -> known.KnownCases:
    """Run the bundle's graph on all cases."""
    model = Model(bundle.weights)
    entries, vectors, answers = [], [], []
    for entry, images in cases:
        vector, answer = features(model, images)
        entries.append(entry)
        vectors.append(vector)
        answers.append(answer)
    sides = [[e.patient for e in entries if e.split == split] for split in known.SPLITS]
    assert_apart(*sides)
    return known.KnownCases(
        weights_sha256=bundle.sha256,
        features=known.unit(np.stack(vectors)),
        probabilities=np.stack(answers).astype(np.float32),
        ids=tuple(e.id for e in entries),
        patients=tuple(e.patient for e in entries),
        data_sets=tuple(e.data_set for e in entries),
        splits=tuple(e.split for e in entries),
        labels=tuple(e.label for e in entries),
        truths=tuple(e.truth for e in entries),
    )


# -- reading the data sets ----------------------------------------------------------------------------------------------


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def nodule_entry(row: dict[str, str], split: str) -> Entry:
    """A row of ``nodules.csv`` as a case."""
    votes = [int(vote) for vote in row["malignancy_scores"].split()]
    mean = float(row["malignancy_mean"])
    score = math.floor(mean + 0.5)
    label = INDETERMINATE if score == 3 else "malignant" if score > 3 else "benign"
    said = f"malignancy score{'s' if len(votes) > 1 else ''} {', '.join(map(str, votes))} (1 to 5)"
    return Entry(
        id=f"{row['patient_id']} {row['nodule']}",
        patient=row["patient_id"],
        data_set="LIDC-IDRI",
        split=split,
        label=label,
        truth={
            "text": f"{label}: {said}" + (f", mean {mean:.3g}" if len(votes) > 1 else ""),
            "readers": len(votes),
            "votes": votes,
            "mean": mean,
            "diameter_mm": round(float(row["diameter_mm_mean"]), 1),
            "attributes": {name: float(row[name]) for name in ATTRIBUTES if row[name]},
        },
    )


def nodule_images(archive: zipfile.ZipFile, row: dict[str, str]) -> np.ndarray:
    """Network inputs of a nodule: the slices that the service would use, shape (S, 1, 96, 96)."""
    stack = lung.read_stack(archive, row["file"], int(row["n_slices"]))
    middle, spacing = (len(stack) - 1) // 2, float(row["pixel_spacing_mm"])
    reach = int(lung.HALF_DEPTH_MM / float(row["slice_thickness_mm"]))
    around = stack[max(0, middle - reach) : middle + reach + 1]
    return np.stack([nodule_window(image, CENTRE, (spacing, spacing), **lung.PREPROCESSING) for image in around])  # type: ignore[arg-type]


def nodules(data: Path) -> Iterator[Seen]:
    """The nodules of LIDC-IDRI that `training.lung` uses, each with its side of the split."""
    rows = [r for r in _rows(data / "lidc_nodules/nodules.csv") if r["match"] != "none" and r["malignancy_mean"]]
    with zipfile.ZipFile(data / "lidc_nodules/slices.zip") as archive:
        for row in tqdm(rows, desc="cases lung", mininterval=2):
            split = lung.part_of(row["patient_id"])
            if row["match"] != "partial" or split == "train":
                yield nodule_entry(row, split), nodule_images(archive, row)


def photograph_entry(item: retina.Photograph, labels: dict[str, str], risk: dict[str, int]) -> Entry:
    """A graded photograph as a case; `labels` are the grades in words, `risk` is IDRiD's grade of macular edema."""
    name = item.member.removesuffix(".jpg")
    if item.source == "idrid":
        folder, name = name.split("/")
        identity, data_set = f"{name} ({'testing' if folder == 'test' else 'training'} set)", "IDRiD"
    else:
        identity, data_set = f"EyePACS {name}", EYEPACS[item.source]
    truth: dict[str, Any] = {"text": f"grade {item.grade}: {labels[str(item.grade)]}", "grade": item.grade}
    if item.member in risk and item.source == "idrid":
        truth["attributes"] = {"macular_edema_risk": risk[item.member]}
    patient = identity if item.source == "idrid" else item.patient.replace("eyepacs", "EyePACS")
    return Entry(identity, patient, data_set, item.part, str(item.grade), truth)


def photograph_images(pixels: np.ndarray) -> np.ndarray:
    """Network input of a photograph (H, W, 3), shape (1, 3, 512, 512)."""
    field = fundus_field(pixels)
    assert field is not None
    return fundus_square(pixels, field, **retina.PREPROCESSING)[None]  # type: ignore[arg-type]


def photographs(data: Path, bundle: Bundle) -> Iterator[Seen]:
    """The graded photographs of IDRiD and EyePACS that `training.retina` uses; of two copies the one in natural colour."""
    items = [item for item in retina.photographs(data) if item.source != "idrid_lesions"]
    natural = {item.member for item in items if item.source == "eyepacs_natural"}
    items = [item for item in items if item.source != "eyepacs_equalised" or item.member not in natural]
    labels = {entry["name"]: entry["label"] for entry in bundle.description["classes"]}
    risk = {row["file"]: int(row["dme_risk"]) for row in _rows(data / "idrid/grading.csv")}
    for item in tqdm(items, desc="cases retina", mininterval=2):
        yield photograph_entry(item, labels, risk), photograph_images(retina.read(data, item))


# -- writing ------------------------------------------------------------------------------------------------------------

LUNG_SET = "LIDC-IDRI nodules with the readers' scores (CC BY 3.0, doi:10.7937/K9/TCIA.2015.LO9QL9SX)"
RETINA_SET = (
    "photographs of IDRiD (CC BY 4.0, doi:10.21227/H25W98; it names no patients, so each counts as one) and of EyePACS "
    "(Kaggle 2015), with their grade"
)


def publish(
    folder: Path, cases: known.KnownCases, data_set: str, evidence: Callable[[known.KnownCases], list[dict[str, Any]]]
) -> Bundle:
    """Write ``cases.npz`` into a bundle's folder, name it in ``model.json``, render the card, and verify the whole.

    `evidence` measures what was written, in the precision in which it was.
    """
    part = folder / f"{FILE}.part"
    known.write(cases, part)
    figures = evidence(known.read(part))
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    description["cases"] = {
        "file": FILE,
        "sha256": bundles.digest(part),
        "n": len(cases),
        "data_set": data_set,
        "date": today(),
        "evidence": figures,
    }
    commands = description["rebuild"]["commands"]
    description["rebuild"]["commands"] = [*commands, *({"make cases"} - set(commands))]
    rounded = json.loads(json.dumps(description), parse_float=lambda text: float(f"{float(text):.6g}"))
    (folder / "model.json.part").write_text(json.dumps(rounded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "CARD.md.part").write_text(render(rounded), encoding="utf-8")
    for file in (FILE, "model.json", "CARD.md"):
        (folder / f"{file}.part").replace(folder / file)
    return bundles.load(folder)


def make(name: str) -> Bundle:
    """Compute and publish the cases of the lung or the retina model, and write ``docs/results/cases_<name>.json``."""
    data = shared_data()
    folder = MODELS / ("sisc_lung" if name == "lung" else "clear_dr")
    bundle = bundles.load(folder)
    if name == "lung":
        cases = known_cases(bundle, nodules(data))
        bundle = publish(folder, cases, LUNG_SET, lung_evidence)
    else:
        cases = known_cases(bundle, photographs(data, bundle))
        bundle = publish(folder, cases, RETINA_SET, retina_evidence)
    keys = ("name", "version", "weights", "cases")
    text = json.dumps({key: bundle.description[key] for key in keys}, indent=1)
    (ROOT / "docs" / "results" / f"cases_{name}.json").write_text(text + "\n", encoding="utf-8")
    return bundle


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.cases", description="Known cases of a bundle.")
    parser.add_argument("name", choices=("lung", "retina"))
    bundle = make(parser.parse_args(arguments).name)
    for entry in bundle.description["cases"]["evidence"]:
        low, high = entry["interval"]
        null = f" (null {entry['null']:.3f})" if "null" in entry else ""
        figure = f"{entry['value']:.3f} [{low:.3f}, {high:.3f}]{null}  n={entry['n']:<4d} {entry['name']}"
        print(f"{figure} | {entry['data_set']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
