"""Explanations against the radiologists' contours: our response maps and other methods on the same network and nodules.

Each class is measured on its own nodules (the map for malignant on malignant nodules), middle slice. A map without positive
response finds nothing: it counts 0 in every measure of place, and the number of such maps is given.

Windows are centred on their nodule, so whoever knows only that finds it too. Controls therefore stand beside the methods
(`training.lung.contours.controls`), and all measures of place are repeated on windows that are moved off the nodule's centre.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.perturbation import by_response
from training.explanations import Members, Method, Network, convolutions, flat, methods, shuffled
from training.lung.contours import CLASSES, MOST_MM, SOURCE_PX, Cases, control_texts, controls, first_of_each, read
from training.lung.data import Nodule, Prepared
from training.response_maps import evidence as ev

DEFAULT = "guided, contrast"
PATCH = 4
"""Side of the patches of deletion and insertion, px."""
PAIRS = ("class_correlation", "shared_response")
CONTEST: dict[str, Callable[..., Any]] = {
    "share_inside": max,
    "pointing": max,
    "iou": max,
    "class_correlation": min,
    "shared_response": min,
    "deletion": min,
    "insertion": max,
}
"""Figures that have a winner, and which value wins."""
FORMULAS = {
    "lift_of_source": (
        f"mean share inside the region / mean of the region's share of the whole {SOURCE_PX} px source slice (the same map, "
        "zero outside the window)"
    ),
    **{key: text for key, text in ev.FORMULAS.items() if not key.endswith("_auc")},
}


@dataclass(frozen=True)
class Settings:
    """How much is measured, and how; the defaults are for one network."""

    steps: int = 16
    """Of Integrated Gradients."""
    patch_px: int = 9
    stride_px: int = 5
    """Of occlusion."""
    curves: int = 60
    """Nodules a class for deletion and insertion."""
    moved: int = 40
    """Nodules a class for the windows that are moved."""
    move_mm: float = MOST_MM
    """How far they are moved along each axis."""
    checked: int = 8
    """Nodules a class for stability and randomisation."""
    noise: float = 0.02
    """Radius of stability's noise, as a share of the window's grey range."""
    draws: int = 3
    centre_sd_px: float = 6.0
    """Of the Gaussian controls."""
    batch: int = 16

    @staticmethod
    def affordable(members: int) -> Settings:
        """Less for an ensemble, of what needs many passes: steps, strides, and the nodules of curves and moved windows."""
        if members == 1:
            return Settings()
        nodules = max(25, 60 // members)
        return Settings(max(6, 16 // members), stride_px=6 if members < 4 else 9, curves=nodules, moved=nodules)


Values = dict[str, dict[str, np.ndarray]]
"""Method -> figure -> one value a nodule; NaN where it was not measured."""


@torch.no_grad()
def probability(network: Network, images: np.ndarray | Tensor, batch: int = 64) -> np.ndarray:
    """Probabilities of the classes, float64, shape (n, N)."""
    return torch.cat([network(part).double().softmax(1) for part in torch.as_tensor(images).split(batch)]).numpy()


def measure(
    network: Network, explain: Mapping[str, Method], cases: Cases, curved: Collection[int], settings: Settings
) -> Values:
    """Place and class correlation of all methods and controls on all cases, and the curves of the cases in rows `curved`."""
    known = controls(cases, settings.centre_sd_px)
    count = len(cases.nodules)
    values: Values = {name: defaultdict(lambda: np.full(count, np.nan)) for name in (*explain, *known)}
    regions, of_source, labels = cases.regions, cases.of_source, cases.labels
    for start in range(0, count, settings.batch):
        x = cases.images[start : start + settings.batch]
        maps = {name: method.maps(network, x).numpy() for name, method in explain.items()}
        for offset in range(len(x)):
            k, c = start + offset, int(labels[start + offset])
            for name, of in maps.items():
                values[name]["class_correlation"][k] = ev.class_correlation(of[offset])
                values[name]["shared_response"][k] = ev.shared_response(of[offset])
                values[name]["opposite"][k] = np.abs(of[offset].sum(0)).max() <= 1e-4 * np.abs(of[offset]).max()
            shown = {name: of[offset, c] for name, of in maps.items()} | {name: of[k] for name, of in known.items()}
            for name, response in shown.items():
                for figure, value in (ev.placed(response, regions[k]) | {"null_of_source": of_source[k]}).items():
                    values[name][figure][k] = value
            if k not in curved:
                continue

            def said(images: np.ndarray, c: int = c) -> np.ndarray:
                return probability(network, images)[:, c]

            image, empty = x[offset].numpy(), flat(x[offset : offset + 1])[0].numpy()
            orders = [by_response(response, PATCH) for response in shown.values()]
            lines = ev.curves(said, image, empty, orders, PATCH)
            for figure, curve in zip(("deletion", "insertion"), lines, strict=True):
                for name, value in zip(shown, ev.area(curve), strict=True):
                    values[name][figure][k] = value
    return values


def check(network: Network, explain: Mapping[str, Method], cases: Cases, settings: Settings) -> Values:
    """Stability, and what is left of the maps when the class layer, half of all layers, and all layers are randomised."""
    layers = convolutions(network.folded)
    stages = {
        count: Network(shuffled(network.folded, count), network.prior)
        for count in sorted({1, max(1, layers // 2), layers})
    }
    own = np.arange(len(cases.nodules)), cases.labels
    images, values = cases.images.numpy(), {}

    def maps(images: np.ndarray, method: Method, network: Network = network) -> np.ndarray:
        parts = [method.maps(network, part).numpy() for part in torch.as_tensor(images).split(settings.batch)]
        return np.concatenate(parts)[own]

    for name, method in explain.items():
        learnt = maps(images, method)
        values[name] = {"stability": ev.stability(partial(maps, method=method), images, settings.noise, settings.draws)}
        for count, other in stages.items():
            pairs = zip(learnt, maps(images, method, other), strict=True)
            values[name][f"randomisation_{count}_of_{layers}"] = np.array(
                [ev.rank_correlation(*pair) for pair in pairs]
            )
    return values


def summaries(values: Mapping[str, np.ndarray], rows: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """Every figure of one method on some rows: value, interval over patients, n; with the nulls of share and pointing."""
    used = {figure: column[rows] for figure, column in values.items()}
    who, null = patients[rows], used.pop("null")
    of_source, empty = used.pop("null_of_source"), used.pop("empty")
    found = {f: ev.summary(column, who) for f, column in used.items() if f not in (*PAIRS, "opposite")}
    found["share_inside"] |= {"null": float(null.mean()), "empty": int(empty.sum())}
    found["pointing"]["null"] = float(null.mean())
    found["lift_of_means"] = ev.summary(used["share_inside"], who, null)
    found["lift_of_source"] = ev.summary(used["share_inside"], who, of_source)
    return found


def contest(values: Values, explain: Mapping[str, Method], cases: Cases, figures: Collection[str]) -> dict[str, Any]:
    """Who is first in each figure, by class: all methods in order, the best of ours and of the peers and their paired difference.

    The difference of the default to the best peer stands beside it: the best of several is chosen by these very numbers. Where
    classes are held against each other, a method whose maps are each other's negative by construction is left out.
    """
    found: dict[str, Any] = {}
    opposite = {name for name in explain if values[name]["opposite"].all()}
    classes = {name: cases.labels == c for c, name in enumerate(CLASSES)}
    for figure in figures:
        groups = {"both": np.ones(len(cases.nodules), bool)} if figure in PAIRS else classes
        for group, rows in groups.items():
            entered = [name for name in explain if figure not in PAIRS or name not in opposite]
            columns = {name: values[name][figure][rows] for name in entered}
            mean = {name: float(np.nanmean(column)) for name, column in columns.items() if np.isfinite(column).any()}
            ranking = sorted(mean, key=lambda name: mean[name], reverse=CONTEST[figure] is max)
            ours, peer = (next(name for name in ranking if explain[name].ours == mine) for mine in (True, False))
            who = cases.patients[rows]
            found.setdefault(figure, {})[group] = {
                "first": ranking[0],
                "ranking": ranking,
                "left_out": sorted(set(explain) - set(columns)),
                "ours": ours,
                "peer": peer,
                "ours_minus_peer": ev.summary(columns[ours] - columns[peer], who),
                "default_minus_peer": ev.summary(columns[DEFAULT] - columns[peer], who),
            }
            if figure not in PAIRS:
                centre = values["centre"][figure][rows]
                found[figure][group]["first_minus_centre"] = ev.summary(columns[ranking[0]] - centre, who)
    return found


def emptied(network: Network, cases: Cases) -> dict[str, Any]:
    """p(malignant) of malignant nodules: as they are, with what any reader drew and 1 mm around it filled, and empty."""
    cases = cases.subset(np.flatnonzero(cases.labels == 1))
    base = flat(cases.images)
    drawn = F.max_pool2d(torch.from_numpy((cases.drawn > 0).astype(np.float32))[:, None], 5, 1, 2) > 0
    filled = torch.where(drawn, base, cases.images)
    said = {"window": cases.images, "nodule_filled": filled, "baseline": base}
    found = {name: ev.summary(probability(network, x)[:, 1], cases.patients) for name, x in said.items()}
    return {**found, "prior": float(network.prior.softmax(0)[1])}


def completeness(network: Network, explain: Mapping[str, Method], cases: Cases, batch: int) -> float:
    """Median of |sum of the map - d| / |d| of Integrated Gradients, d the log-odds less those of the baseline."""
    gaps = []
    for x in cases.images.split(batch):
        with torch.no_grad():
            logits = network(x) - network(flat(x))
        change = (logits[:, 1] - logits[:, 0]).numpy()
        total = explain["Integrated Gradients"].maps(network, x)[:, 1].sum((1, 2)).numpy()
        gaps.append(np.abs(total - change) / np.abs(change))
    return float(np.median(np.concatenate(gaps)))


def compare(
    members: Members,
    prior: Tensor | None,
    prepared: Prepared,
    nodules: Sequence[Nodule] | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Measure everything.

    Parameters
    ----------
    members, prior
        The network (`training.explanations.Network`).
    prepared : Prepared
    nodules : sequence of Nodule, optional
        Of set I, both classes; those of the test patients unless given.
    settings : Settings, optional

    Returns
    -------
    dict
        For JSON: settings, formulas, nulls, every method with its figures by class, and the contest.
    """
    settings = settings or Settings.affordable(len(members))
    explain = methods(settings.steps, settings.patch_px, settings.stride_px)
    network = Network(members, prior)
    cases = read(prepared, prepared.part("test") if nodules is None else nodules)
    moved = read(prepared, cases.nodules, settings.move_mm)
    moved = moved.subset(first_of_each(moved.labels, settings.moved))
    checked = cases.subset(first_of_each(cases.labels, settings.checked))
    values = measure(network, explain, cases, first_of_each(cases.labels, settings.curves).tolist(), settings)
    of_moved = measure(network, explain, moved, (), settings)
    of_checked = check(network, explain, checked, settings)
    texts = {name: method.text for name, method in explain.items()} | control_texts(settings.centre_sd_px)
    by_class = {name: (cases.labels == c, moved.labels == c) for c, name in enumerate(CLASSES)}
    found: dict[str, Any] = {}
    for name, text in texts.items():
        found[name] = {
            "kind": "control" if name not in explain else "ours" if explain[name].ours else "peer",
            "text": text,
        }
        for klass, (rows, shifted) in by_class.items():
            found[name][klass] = summaries(values[name], rows, cases.patients)
            found[name][f"{klass}, moved"] = summaries(of_moved[name], shifted, moved.patients)
        if name in explain:
            found[name]["both"] = {figure: ev.summary(values[name][figure], cases.patients) for figure in PAIRS}
            found[name]["both"] |= {f: ev.summary(v, checked.patients) for f, v in of_checked[name].items()}
    return {
        "data_set": "LIDC-IDRI, set I, middle slice, 50 % consensus of the readers",
        "nodules": {klass: int(rows.sum()) for klass, (rows, _) in by_class.items()},
        "patients": len(np.unique(cases.patients)),
        "null": {
            klass: {
                "window": float(cases.of_window[rows].mean()),
                "source": float(cases.of_source[rows].mean()),
                "largest_lift": float((1 / cases.of_window[rows]).mean()),
            }
            for klass, (rows, _) in by_class.items()
        },
        "members": len(members),
        "settings": {**asdict(settings), "curve_patch_px": PATCH, "curve_shares": list(ev.FRACTIONS)},
        "formulas": FORMULAS,
        "methods": found,
        "first": contest(values, explain, cases, CONTEST),
        "first_moved": contest(of_moved, explain, moved, ("share_inside", "pointing", "iou")),
        "baseline": emptied(network, cases),
        "integrated_gradients_gap": completeness(network, explain, checked, settings.batch),
    }
