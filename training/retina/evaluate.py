"""Figures of the exported retina model, through ONNX Runtime on the shared preprocessing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any

import numpy as np

from models.preprocessing import fundus_field, fundus_square
from training import metrics as m
from training.bundles import Model, metric
from training.data import shared_data
from training.response_maps import evidence as ev
from training.retina.data import LESION_GRID, PREPROCESSING, Photograph, Prepared, lesion_labels, read

TESTS = {
    "idrid": ("IDRiD grading", "official test split"),
    "eyepacs_natural": ("EyePACS, natural colour", "by patient: 3/4 train, 1/8 validation, 1/8 test; test"),
    "eyepacs_equalised": (
        "EyePACS, equalised copies at 256 px",
        "by patient: 3/4 train, 1/8 validation, 1/8 test; test",
    ),
}


def images(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Network inputs of prepared photographs, float32, shape (n, 3, 512, 512)."""
    return np.stack([prepared.images[k] for k in rows]).astype(np.float32) / 31.875 - 4


def probabilities(model: Model, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Class probabilities, shape (n, 5)."""
    parts = [model.run(images(prepared, rows[k : k + 16]), "probabilities")[0] for k in range(0, len(rows), 16)]
    return np.concatenate(parts).astype(float)


def grades(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """True grades, int, shape (n,)."""
    return np.array([prepared.items[k].grade for k in rows])


def patients(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Patients of the photographs, for the bootstrap."""
    return np.array([prepared.items[k].patient for k in rows])


def _recall(grade: int) -> Callable[[np.ndarray, np.ndarray], float]:
    def recall(truth: np.ndarray, said: np.ndarray) -> float:
        return float((said[truth == grade] == grade).mean()) if (truth == grade).any() else float("nan")

    return recall


def _accuracy(truth: np.ndarray, said: np.ndarray) -> float:
    return float((truth == said).mean())


def _majority(truth: np.ndarray) -> float:
    return float(np.bincount(truth).max() / len(truth))


def figures(model: Model, prepared: Prepared) -> list[dict[str, Any]]:
    """Quadratic weighted kappa, referable AUC, accuracy with its majority baseline, recall by grade; by data set."""
    found = []
    for source, (data, split) in TESTS.items():
        rows = prepared.rows("test", source)
        truth, who = grades(prepared, rows), patients(prepared, rows)
        p = probabilities(model, prepared, rows)
        said = p.argmax(1)

        def add(
            name: str, figure: Any, *columns: np.ndarray, groups: np.ndarray = who, data: str = data, split: str = split
        ) -> None:
            found.append(
                metric(name, figure(*columns), m.bootstrap(figure, groups, *columns), len(columns[0]), data, split)
            )

        add("quadratic weighted kappa", m.quadratic_weighted_kappa, truth, said)
        add("AUC, referable (grade >= 2)", m.auc, (truth >= 2).astype(int), p[:, 2:].sum(1))
        add("accuracy", _accuracy, truth, said)
        add("accuracy of always answering the commonest grade", _majority, truth)
        if source == "idrid":
            for grade in range(5):
                add(f"recall of grade {grade}", _recall(grade), truth, said)
                found[-1]["n"] = int((truth == grade).sum())
    return found


def operating_points(model: Model, prepared: Prepared) -> list[dict[str, Any]]:
    """Thresholds from the validation parts of IDRiD and EyePACS, sensitivity and specificity on IDRiD's test split."""
    validation = np.concatenate([prepared.rows("validation", source) for source in ("idrid", "eyepacs_natural")])
    test = prepared.rows("test", "idrid")
    points = []
    for name, first in (("mtmDR", 2), ("vtDR", 3)):
        truth = {part: (grades(prepared, rows) >= first).astype(int) for part, rows in (("v", validation), ("t", test))}
        score = {
            part: probabilities(model, prepared, rows)[:, first:].sum(1)
            for part, rows in (("v", validation), ("t", test))
        }
        threshold = round(m.threshold_balanced(truth["v"], score["v"]), 4)
        point = {
            "name": name,
            "default": name == "mtmDR",
            "score_classes": [str(g) for g in range(first, 5)],
            "threshold": threshold,
        }
        points.append(
            {
                **point,
                **m.decision_figures(truth["t"], score["t"], threshold),
                "data_set": "IDRiD grading, official test split",
            }
        )
    return points


def _maps(model: Model, prepared: Prepared, rows: np.ndarray) -> list[np.ndarray]:
    return [model.run(images(prepared, rows[k : k + 1]), "response_maps")[0][0] for k in range(len(rows))]


def reference_scale(model: Model, prepared: Prepared) -> float:
    """99.9th percentile of the positive dominant response on IDRiD's validation photographs."""
    values = [maps.max(0) for maps in _maps(model, prepared, prepared.rows("validation", "idrid"))]
    return float(np.percentile(np.concatenate([v[v > 0] for v in values]), 99.9))


def evidence(model: Model, prepared: Prepared) -> list[dict[str, Any]]:
    """Do the maps of the graded class lie on drawn lesions? IDRiD lesion-test photographs (never trained on)."""
    data = shared_data()
    with (data / "idrid/lesions.csv").open(encoding="utf-8") as stream:
        names = [row["file"] for row in csv.DictReader(stream) if row["split"] == "test"]
    inside, nulls, hits, correlations = [], [], [], []
    for name in names:
        photograph = Photograph("idrid/lesions.zip", name, "idrid_lesions", "", -1, "test")
        pixels = read(data, photograph)
        field = fundus_field(pixels)
        assert field is not None
        x = fundus_square(pixels, field, **PREPROCESSING)  # type: ignore[arg-type]
        p, maps = model.run(x[None], "probabilities", "response_maps")
        grade, maps = int(p[0].argmax()), maps[0]
        correlations.append(ev.class_correlation(maps))
        if grade < 2:
            continue
        cells = lesion_labels(data, photograph, pixels).any(0)
        region = np.kron(cells, np.ones((x.shape[1] // LESION_GRID,) * 2, bool)).astype(bool)
        seen = np.any(x != 0, axis=0)
        inside.append(ev.share_inside(maps[grade], region))
        nulls.append(float(region[seen].mean()))
        hits.append(ev.pointing(maps[grade], region))
    known = [hit for hit in hits if hit is not None]
    text = (
        "IDRiD lesions, official test split, photographs graded 2-4, map of the graded class; "
        "lesions MA, HE, EX, SE on an 8 px raster"
    )
    null = float(np.mean(nulls)) if nulls else float("nan")
    return [
        {
            "name": "share of positive response on lesions",
            "value": float(np.nanmean(inside)),
            "null": null,
            "n": int(np.isfinite(inside).sum()),
            "data_set": text,
            "formula": ev.FORMULAS["share_inside"],
        },
        {
            "name": "pointing game, lesions",
            "value": float(np.mean(known)),
            "null": null,
            "n": len(known),
            "data_set": text,
            "formula": ev.FORMULAS["pointing"],
        },
        {
            "name": "class correlation",
            "value": float(np.nanmean(correlations)),
            "n": int(np.isfinite(correlations).sum()),
            "data_set": "IDRiD lesions, official test split",
            "formula": ev.FORMULAS["class_correlation"],
        },
    ]
