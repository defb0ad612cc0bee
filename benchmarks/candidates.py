"""How many nodules the built-in candidate finder finds, and how much else: ``python -m benchmarks.candidates``.

Writes ``docs/results/candidates.json`` and ``docs/candidates.md``. ``--fit`` prints the weights of the score instead, fitted on
other planted nodules, in one lung of the patient only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import candidates_page
from benchmarks.planting import PLACES, Ground, Planted, Shape, drawn, ground, plant
from service import phantoms
from service.intake import blobs, candidates, lungs, volume
from service.intake.blobs import Blob
from service.intake.sandbox import Sandbox
from service.intake.series import arrange
from service.intake.stack import Stack
from training.bundles import commit, today
from training.data import ROOT, shared_data

SIZES_MM = ((3.0, 4.0), (4.0, 6.0), (6.0, 10.0), (10.0, 20.0), (20.0, 30.0))
TEXTURES = ("solid", "solid", "part-solid", "ground glass")
LESION = Planted((63.0, 284.0, 182.0), 26.0, "part-solid", "pleura", "real")
"""The known adenocarcinoma of the real CT: slice, row and column of its middle, and its extent with the ground glass."""
FIT_SEED, REPORT_SEED = 1, 2
THICK = (2, 5)
"""Slices averaged to one, to see what thicker slices do."""


@dataclass(frozen=True)
class Answer:
    """Where one nodule came among all that is not planted (1 is best; None: not found), and with what score."""

    nodule: Planted
    rank: int | None
    score: float


def real_ct() -> tuple[np.ndarray, Stack]:
    """The real chest CT, read as the service reads it: float32 (slices, rows, columns), HU."""
    with tempfile.TemporaryDirectory() as spool, Sandbox(Path(spool)) as sandbox:
        files = sandbox.expand(shared_data() / "dicom" / "ct_lungfcp_0001.zip")
        stack = arrange(sandbox.inspect(files))
        return np.stack([sandbox.hounsfield(instance) for instance in stack.instances]), stack


def copies(base: Ground, shapes: Sequence[Shape], count: int, seed: int) -> Iterator[tuple[np.ndarray, list[Planted]]]:
    """Copies of the CT with up to five nodules each, one of each size; in turn balls and drawn shapes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        chosen = []
        for low, high in SIZES_MM:
            fitting = [shape for shape in shapes if low <= shape.diameter_mm < high]
            if number % 2 and fitting:
                chosen.append(fitting[rng.integers(len(fitting))])
            else:
                chosen.append(Shape("ball", float(rng.uniform(low, high))))
        textures = [TEXTURES[rng.integers(len(TEXTURES))] for _ in chosen]
        textures = [
            "solid" if texture == "part-solid" and shape.diameter_mm < 6 else texture
            for shape, texture in zip(chosen, textures, strict=True)
        ]
        places = [PLACES[rng.integers(len(PLACES))] for _ in chosen]
        yield plant(base, chosen[::-1], textures[::-1], places[::-1], [LESION], rng)


def measured(hounsfield: np.ndarray, stack: Stack) -> tuple[list[Blob], volume.Volume, lungs.Lungs]:
    """All blobs of a series, before they are ranked."""
    grid = volume.read(iter(hounsfield), stack)
    found = lungs.find(grid.hounsfield, grid.step_mm)
    return [blob for lung in found.lungs for blob in blobs.find(lung, grid.hounsfield, grid.step_mm)], grid, found


def place(nodule: Planted, stack: Stack) -> np.ndarray:
    """Centre of a planted nodule in patient coordinates, mm."""
    low = int(nodule.at[0])
    ends = [np.array(stack.to_mm(min(k, len(stack.instances) - 1), nodule.at[:0:-1])) for k in (low, low + 1)]
    return ends[0] + (nodule.at[0] - low) * (ends[1] - ends[0])


def is_hit(center_mm: Sequence[float], nodule: Planted, stack: Stack) -> bool:
    """A candidate hits a nodule when its centre lies in it: within half its diameter, at least 2.5 mm, of its centre."""
    return bool(np.linalg.norm(np.subtract(center_mm, place(nodule, stack))) <= max(2.5, nodule.diameter_mm / 2))


def answers(
    hounsfield: np.ndarray, stack: Stack, planted: list[Planted], truth: Stack
) -> tuple[list[Answer], list[float]]:
    """How each nodule fared, and the scores of all that is neither planted nor the known lesion.

    Parameters
    ----------
    stack : Stack
        Of the slices as searched.
    truth : Stack
        In whose voxels the nodules are given.
    """
    found, grid, _ = measured(hounsfield, stack)
    listed = [(grid.to_mm(blob.at), score) for blob, score in candidates.ranked(found, grid.step_mm)]
    near = [  # what touches a planted nodule is neither found nor false
        any(np.linalg.norm(np.subtract(mm, place(n, truth))) <= n.diameter_mm / 2 + 4 for n in planted)
        for mm, _ in listed
    ]
    others = [value for (_, value), touches in zip(listed, near, strict=True) if not touches]
    false = [
        value
        for (mm, value), touches in zip(listed, near, strict=True)
        if not touches and not is_hit(mm, LESION, truth)
    ]
    result = []
    for nodule in planted:
        scores = [value for mm, value in listed if is_hit(mm, nodule, truth)]
        best = max(scores, default=0.0)
        result.append(Answer(nodule, 1 + sum(value > best for value in others) if scores else None, best))
    return result, false


def thicker(hounsfield: np.ndarray, stack: Stack, together: int) -> tuple[np.ndarray, Stack]:
    """Every `together` neighbours averaged to one slice."""
    count = len(stack.instances) // together
    images = hounsfield[: count * together].reshape(count, together, *hounsfield.shape[1:]).mean(axis=1)
    instances = []
    for k in range(count):
        ends = [np.array(stack.instances[k * together + n].position) for n in (0, together - 1)]
        x, y, z = (float(v) for v in (ends[0] + ends[1]) / 2)
        instances.append(replace(stack.instances[k * together], position=(x, y, z), slice_thickness=float(together)))
    return images, Stack(tuple(instances), stack.pixel_spacing, (stack.slice_spacing_mm or 1.0) * together)


def fit(count: int) -> dict[str, float]:
    """Weights of the score: logistic regression, both sides weighing the same, on the patient's left lung."""
    from sklearn.linear_model import LogisticRegression

    hounsfield, stack = real_ct()
    base = ground(hounsfield, _steps(stack))
    shapes = drawn(shared_data() / "lidc_nodules", "train")
    middle = float(np.mean([stack.to_mm(0, (c, 0.0))[0] for c in (0.0, stack.instances[0].columns - 1.0)]))
    found, grid, _ = measured(hounsfield, stack)
    rows = [(blob, 0) for blob in found if candidates.may_be(blob) and grid.to_mm(blob.at)[0] > middle]
    for copy, planted in copies(base, shapes, count, FIT_SEED):
        found, grid, _ = measured(copy, stack)
        for nodule in planted:
            if place(nodule, stack)[0] > middle:
                hits = [
                    blob for blob in found if candidates.may_be(blob) and is_hit(grid.to_mm(blob.at), nodule, stack)
                ]
                rows += [(blob, 1) for blob in sorted(hits, key=lambda b: -b.peak.response * b.peak.agreement)[:1]]
    names = [name for name in candidates.WEIGHTS if name != "bias"]
    values = np.array([[candidates.features(blob)[name] for name in names] for blob, _ in rows])
    truth = np.array([label for _, label in rows])
    print(f"{int(truth.sum())} nodules, {int((1 - truth).sum())} other blobs")
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000).fit(values, truth)
    weights = {"bias": model.intercept_[0], **dict(zip(names, model.coef_[0], strict=True))}
    return {name: round(float(value), 2) for name, value in weights.items()}


def _steps(stack: Stack) -> tuple[float, float, float]:
    return (stack.slice_spacing_mm or 1.0, *stack.pixel_spacing)


def measure(count: int) -> dict[str, Any]:
    """All figures of the page."""
    hounsfield, stack = real_ct()
    results: dict[str, Any] = {
        "date": today(),
        "commit": commit(),
        "seed": REPORT_SEED,
        "fit_seed": FIT_SEED,
        "copies": count,
    }
    results["setting"] = {"most": candidates.MOST, "least_score": candidates.LEAST_SCORE}
    begin = time.process_time()
    search = candidates.find(iter(hounsfield), stack)
    results["seconds"] = round(time.process_time() - begin, 2)
    results["slices"], results["lung_ml"] = len(hounsfield), search.lung_ml
    results["real"] = [_real(hounsfield, stack, stack, "as sent")]
    base = ground(hounsfield, _steps(stack))
    shapes = drawn(shared_data() / "lidc_nodules", "test")
    rows: list[tuple[str, Answer]] = []
    for number, (copy, planted) in enumerate(copies(base, shapes, count, REPORT_SEED)):
        rows += [("as sent", answer) for answer in answers(copy, stack, planted, stack)[0]]
        for together in THICK if number < count // 3 else ():
            thick = thicker(copy, stack, together)
            rows += [(_thickness(stack, together), answer) for answer in answers(*thick, planted, stack)[0]]
    for together in THICK:
        thick = thicker(hounsfield, stack, together)
        results["real"].append(_real(*thick, stack, _thickness(stack, together)))
    middle = stack.to_mm(0, ((stack.instances[0].columns - 1) / 2, 0.0))[0]
    results["planted"] = [
        {
            "slices": slices,
            "diameter_mm": round(answer.nodule.diameter_mm, 1),
            "texture": answer.nodule.texture,
            "place": answer.nodule.place,
            "shape": "ball" if answer.nodule.shape == "ball" else "drawn",
            "lung": "left" if place(answer.nodule, stack)[0] > middle else "right",
            "rank": answer.rank,
            "score": round(answer.score, 3),
        }
        for slices, answer in rows
    ]
    results["phantoms"] = [_phantom(seed) for seed in (0, 1, 2)]
    return results


def _thickness(stack: Stack, together: int) -> str:
    return f"{(stack.slice_spacing_mm or 1.0) * together:g} mm"


def _real(hounsfield: np.ndarray, stack: Stack, truth: Stack, slices: str) -> dict[str, Any]:
    (lesion,), false = answers(hounsfield, stack, [LESION], truth)
    kept = sorted(false, reverse=True)[:30]
    return {
        "slices": slices,
        "rank": lesion.rank,
        "score": round(lesion.score, 3),
        "others": [round(v, 3) for v in kept],
    }


def _phantom(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Sandbox(Path(folder) / "spool") as sandbox:
        made = phantoms.write_ct(Path(folder) / "ct", seed=seed)
        stack = arrange(sandbox.inspect(made["files"]))
        found = candidates.find(lambda k: sandbox.hounsfield(stack.instances[k]), stack).regions
    hit = [
        any(
            region.center_mm is not None
            and np.linalg.norm(np.subtract(region.center_mm, nodule["center_mm"])) <= nodule["diameter_mm"] / 2
            for region in found
        )
        for nodule in made["nodules"]
    ]
    return {"seed": seed, "nodules": len(hit), "found": sum(hit), "others": len(found) - sum(hit)}


def main() -> int:
    """Measure, or fit; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.candidates", description=__doc__)
    parser.add_argument("--copies", type=int, default=36, help="copies of the CT that nodules are planted into")
    parser.add_argument("--fit", action="store_true", help="print the weights of the score instead")
    given = parser.parse_args()
    if given.fit:
        print(json.dumps(fit(given.copies), indent=1))
        return 0
    results = measure(given.copies)
    (ROOT / "docs" / "results" / "candidates.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = candidates_page.page(results)
    (ROOT / "docs" / "candidates.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
