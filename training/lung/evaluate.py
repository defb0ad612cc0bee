"""Figures of the exported lung model, through ONNX Runtime and the service's rule: centre slice and those within 2.5 mm."""

from __future__ import annotations

import zipfile
from typing import Any

import jpeg_ls
import numpy as np

from models.preprocessing import nodule_box, resample
from training import metrics as m
from training.bundles import Model, metric
from training.data import shared_data
from training.lung.data import PREPROCESSING, Nodule, Prepared, label
from training.lung.train import plain
from training.response_maps import evidence as ev

SPLIT = "by patient: 70 % train, 10 % validation, 20 % test; test"


def probabilities(model: Model, prepared: Prepared, nodules: list[Nodule]) -> list[np.ndarray]:
    """p(malignant) of each central slice, one array a nodule."""
    rows = [nodule.central for nodule in nodules]
    images = plain(prepared.windows[np.concatenate(rows)]).numpy()
    values = model.run(images, "probabilities", batch=64)[0][:, 1].astype(float)
    return np.split(values, np.cumsum([len(row) for row in rows])[:-1])


def _truth(nodules: list[Nodule], subset: str) -> np.ndarray:
    return np.array([label(n, subset) for n in nodules])


def _patients(nodules: list[Nodule]) -> np.ndarray:
    return np.array([n.patient for n in nodules])


def figures(model: Model, prepared: Prepared) -> list[dict[str, Any]]:
    """AUC on the sets I, B, M by nodule and by slice, with the diameter alone as baseline, and the calibration."""
    found = []

    def add(name: str, figure: Any, nodules: list[Nodule], truth: np.ndarray, score: np.ndarray, data: str) -> None:
        interval = m.bootstrap(figure, _patients(nodules), truth, score)
        found.append(metric(name, figure(truth, score), interval, len(truth), data, SPLIT))

    for subset in ("I", "B", "M"):
        nodules = prepared.part("test", subset)
        truth, slices = _truth(nodules, subset), probabilities(model, prepared, nodules)
        score = np.array([s.mean() for s in slices])
        add("AUC by nodule", m.auc, nodules, truth, score, f"LIDC-IDRI, set {subset}")
        diameter = np.array([n.diameter_mm for n in nodules])
        add("AUC of the readers' mean diameter alone", m.auc, nodules, truth, diameter, f"LIDC-IDRI, set {subset}")
        if subset != "I":
            continue
        each = [n for n, s in zip(nodules, slices, strict=True) for _ in s]
        add("AUC by slice", m.auc, each, _truth(each, subset), np.concatenate(slices), "LIDC-IDRI, set I")
        sure = np.array([n.readers >= 3 for n in nodules])
        rated = [n for n in nodules if n.readers >= 3]
        add("AUC by nodule, at least three readers", m.auc, rated, truth[sure], score[sure], "LIDC-IDRI, set I")
        for low, high in ((0, 8), (8, 15), (15, 99)):
            of_size = (diameter >= low) & (diameter < high)
            if 5 <= truth[of_size].sum() <= of_size.sum() - 5:
                chosen = [n for n, keep in zip(nodules, of_size, strict=True) if keep]
                add(
                    f"AUC by nodule, {low}-{high} mm", m.auc, chosen, truth[of_size], score[of_size], "LIDC-IDRI, set I"
                )
        add("expected calibration error (10 bins)", m.calibration_error, nodules, truth, score, "LIDC-IDRI, set I")
    return found


def operating_points(model: Model, prepared: Prepared) -> list[dict[str, Any]]:
    """Thresholds chosen on the validation patients, sensitivity and specificity measured on the test patients."""
    scores = {}
    for part in ("validation", "test"):
        nodules = prepared.part(part)
        scores[part] = _truth(nodules, "I"), np.array([s.mean() for s in probabilities(model, prepared, nodules)])
    points = []
    for name, threshold in (
        ("balanced", m.threshold_balanced(*scores["validation"])),
        ("sensitivity_90", m.threshold_at_sensitivity(*scores["validation"], 0.9)),
        ("sensitivity_95", m.threshold_at_sensitivity(*scores["validation"], 0.95)),
    ):
        point = {
            "name": name,
            "default": name == "balanced",
            "score_classes": ["malignant"],
            "threshold": round(threshold, 4),
        }
        points.append(
            {
                **point,
                **m.decision_figures(*scores["test"], round(threshold, 4)),
                "data_set": f"LIDC-IDRI, set I, by nodule, {SPLIT}",
            }
        )
    return points


def consensus(archive: zipfile.ZipFile, nodule: Nodule) -> np.ndarray:
    """Pixels of the middle slice that at least half of the readers drew, in the model's window: bool, shape (96, 96)."""
    name = f"{nodule.patient}_{nodule.name}.readers.jls"
    bits = np.asarray(jpeg_ls.decode(np.frombuffer(archive.read(name), np.uint8))).reshape(nodule.slices, 104, 104)
    readers = [(bits >> k) & 1 for k in range(8)]
    used = [r for r in readers if r.any()]
    share = sum(r[(nodule.slices - 1) // 2] for r in used) / len(used)
    size = int(PREPROCESSING["size_px"])
    box = nodule_box((51.5, 51.5), (nodule.spacing_mm,) * 2, size_px=size, scale_mm=PREPROCESSING["scale_mm"])
    return np.asarray(resample(share >= 0.5, box, size) >= 0.5)


def middle_maps(model: Model, prepared: Prepared, nodules: list[Nodule]) -> np.ndarray:
    """Response maps of the middle slice of each nodule, shape (n, 2, 96, 96)."""
    rows = [n.first + (n.slices - 1) // 2 for n in nodules]
    return model.run(plain(prepared.windows[rows]).numpy(), "response_maps")[0]


def reference_scale(model: Model, prepared: Prepared) -> float:
    """99.9th percentile of the positive dominant response on the validation patients."""
    strength = middle_maps(model, prepared, prepared.part("validation")).max(1)
    return float(np.percentile(strength[strength > 0], 99.9))


def evidence(model: Model, prepared: Prepared) -> list[dict[str, Any]]:
    """Do the maps lie where the readers drew the nodule? Test patients, set I, middle slice, each class on its own nodules."""
    nodules = prepared.part("test")
    maps = middle_maps(model, prepared, nodules)
    with zipfile.ZipFile(shared_data() / "lidc_nodules/slices.zip") as archive:
        regions = [consensus(archive, n) for n in nodules]
    data, found = "LIDC-IDRI, set I, test patients, middle slice, readers' 50 % consensus", []
    for c, name in enumerate(("benign", "malignant")):
        own = [
            (r[c], region)
            for r, region, n in zip(maps, regions, nodules, strict=True)
            if label(n) == c and region.any()
        ]
        inside = np.array([ev.share_inside(r, region) for r, region in own])
        hits = [ev.pointing(r, region) for r, region in own]
        area = float(np.mean([region.mean() for _, region in own]))
        known = [hit for hit in hits if hit is not None]
        found += [
            {
                "name": f"share of positive response inside the nodule, {name}",
                "value": float(np.nanmean(inside)),
                "null": area,
                "n": int(np.isfinite(inside).sum()),
                "data_set": data,
                "formula": ev.FORMULAS["share_inside"],
            },
            {
                "name": f"pointing game, {name}",
                "value": float(np.mean(known)),
                "null": area,
                "n": len(known),
                "data_set": data,
                "formula": ev.FORMULAS["pointing"],
            },
        ]
    correlations = np.array([ev.class_correlation(r) for r in maps])
    return [
        *found,
        {
            "name": "class correlation",
            "value": float(np.nanmean(correlations)),
            "n": int(np.isfinite(correlations).sum()),
            "data_set": data,
            "formula": ev.FORMULAS["class_correlation"],
        },
    ]
