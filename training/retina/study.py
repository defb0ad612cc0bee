"""Other networks and the thesis' own recipe, trained on the same photographs as the network that the members start from.

All learn grades from EyePACS' equalised copies, as `STAGES` says, and are measured on patients of whom there is a photograph
in natural colour, and on IDRiD's drawn lesions: none has seen a photograph of either.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax  # type: ignore[import-untyped]

from training import metrics as m
from training.bundles import today
from training.networks import EFFICIENTNET_LITE0, Architecture, Inverted, clear_dr, load_pretrained
from training.response_maps import evidence as ev
from training.response_maps.reference import response_maps
from training.retina.data import Prepared, load, prepare
from training.retina.evaluate import cases
from training.retina.networks import ARCHITECTURE, imagenet_weights
from training.retina.train import Plan, Taught, at_size, predict, pretraining_split, train
from training.run import seed_everything

DARK = 0.02
"""Outside the field a prepared photograph is 0, which comes back from 8 bits as 1 / 64."""


@dataclass(frozen=True)
class Variant:
    """One network to compare."""

    title: str
    architecture: Architecture | Inverted
    recipe: str = "clear"
    """Of the prepared arrays: see `training.retina.data.prepare`."""


STAGES = ((256, 6),)
"""Input size in px and epochs: fewer than of the network that the shipped members start from."""
VARIANTS = {
    "stages-5": Variant("EfficientNet-Lite0, five of seven stages (shipped in 0.2.0)", Inverted()),
    "one-sided": Variant(
        "the same, one-sided: a place can speak for a grade but not against one (shipped)", ARCHITECTURE
    ),
    "stages-7": Variant("EfficientNet-Lite0, all stages", Inverted(EFFICIENTNET_LITE0, 512)),
    "one-sided-7": Variant(
        "the same, one-sided: a place can speak for a grade but not against one",
        replace(ARCHITECTURE, stages=EFFICIENTNET_LITE0, last=512),
    ),
    "all-convolutional": Variant("all-convolutional sequencer of 0.1.0, from scratch", clear_dr()),
    "thesis": Variant(
        "the same, with the thesis' recipe (circle crop, flips, standardised channels)", clear_dr(), "thesis"
    ),
}


def _data(data: Path, recipe: str) -> Prepared:
    folder = data if recipe == "clear" else data / recipe
    if not (folder / "photographs.json").exists():
        prepare(folder, recipe=recipe)
    return load(folder)


def learn(name: str, data: Path, plan: Plan) -> Taught:
    """Train one variant, or read it where it has been trained."""
    variant = VARIANTS[name]
    prepared = _data(data, variant.recipe)
    seed_everything(plan.seed)
    network = Taught(variant.architecture)
    if isinstance(variant.architecture, Inverted):
        load_pretrained(network.sequencer, imagenet_weights())
    split = pretraining_split(prepared)
    return train(network, prepared, split, data / f"study-{name}", STAGES, plan.pretraining_rate, plan)


def measure(network: Taught, prepared: Prepared, size: int) -> dict[str, Any]:
    """Grades of unseen natural-colour photographs, and where the maps of photographs with drawn lesions lie."""
    rows = prepared.rows("train", "eyepacs_natural")
    logits = predict(network.sequencer, prepared, rows, size)
    c = cases(prepared, rows, softmax(logits, axis=1))
    draws, truth = m.resample(c.patient), (c.grade >= 2).astype(int)
    kappa = m.quadratic_weighted_kappa
    shares, nulls, hits, correlations = [], [], [], []
    layers = network.sequencer.folded()
    drawn = [k for k in prepared.rows("train", "idrid_lesions") if prepared.lesions[k].any()]
    for k in drawn:
        x = at_size(np.array(prepared.images[k : k + 1]), size)
        maps = response_maps(layers, x)[0].numpy()
        region = np.kron(prepared.lesions[k].any(0), np.ones((size // prepared.lesions.shape[2],) * 2)).astype(bool)
        response = maps[prepared.items[k].grade]
        shares.append(ev.share_inside(response, region))
        lit = (x[0].abs() > DARK).any(0).numpy()
        nulls.append(region[lit].mean())
        hits.append(ev.pointing(response, region))
        correlations.append(ev.class_correlation(maps))
    return {
        "photographs": len(rows),
        "kappa": {"value": kappa(c.grade, c.said), "interval": m.bootstrap(kappa, c.patient, c.grade, c.said)},
        "auc": m.summary(draws.auc(truth, c.score(2))),
        "drawn": len(drawn),
        "share": _mean(shares),
        "null": float(np.mean(nulls)),
        "pointing": float(np.mean([bool(hit) for hit in hits])),
        "class_correlation": _mean(correlations),
        "parameters": sum(p.numel() for p in network.sequencer.parameters()),
    }


def _mean(values: list[float]) -> float:
    """Mean of those that are defined; NaN without any."""
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def page(result: dict[str, Any]) -> str:
    """Markdown text of the comparison."""
    lines = [
        "# CLEAR-DR: which network",
        "",
        "Written by `python -m training.retina study`.",
        "",
        (
            f"All networks learnt grades from the same {result['learnt']} equalised EyePACS photographs at {result['size']} px, "
            f"{result['epochs']} epochs of {result['draws']}. They were measured on {result['photographs']} photographs in "
            "natural colour of other patients (kappa of the answered grade, AUC of grade >= 2; 95 % intervals), "
            f"and on IDRiD's {result['drawn']} training photographs with drawn lesions, of which none had seen any: guided + "
            "contrast map of the true grade, share of positive response on lesions (the lesions' share of the lit field), "
            "pointing without tolerance. No lesion has taught these networks yet. What is one-sided also has a learnt prior, "
            "larger factors for the grades 1 to 4, a bound on the evidence for grade 0, and learning rates of its own for both. "
            "What was measured until 2026-11-26 was trained with weaker augmentation: no field was cut off."
        ),
        "",
        "| network | parameters | kappa | AUC | share (null) | ratio | pointing | class correlation | measured |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in result["variants"].items():
        kappa, auc = each["kappa"], each["auc"]
        cells = [
            VARIANTS[name].title,
            f"{each['parameters'] / 1e6:.2f} M",
            f"{kappa['value']:.3f} ({kappa['interval'][0]:.3f} to {kappa['interval'][1]:.3f})",
            f"{auc['value']:.3f} ({auc['interval'][0]:.3f} to {auc['interval'][1]:.3f})",
            f"{each['share']:.3f} ({each['null']:.3f})",
            f"{each['share'] / each['null']:.1f}",
            f"{each['pointing']:.2f}",
            f"{each['class_correlation']:.2f}",
            each["date"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def perform(data: Path, results: Path, plan: Plan, only: Sequence[str] = ()) -> None:
    """Train what is missing, measure, and write the comparison; with names only those, and the other rows stay as they are."""
    torch.set_num_threads(plan.threads)
    path, size = results / "retina_study.json", STAGES[-1][0]
    measured = json.loads(path.read_text(encoding="utf-8"))["variants"] if only and path.exists() else {}
    for name in only or VARIANTS:
        measured[name] = measure(learn(name, data, plan), _data(data, VARIANTS[name].recipe), size) | {"date": today()}
    one = next(iter(measured.values()))
    result = {
        "size": size,
        "epochs": sum(epochs for _, epochs in STAGES),
        "draws": plan.draws,
        "learnt": len(pretraining_split(_data(data, "clear")).train),
        "photographs": one["photographs"],
        "drawn": one["drawn"],
        "variants": {name: measured[name] for name in VARIANTS if name in measured},
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(result), encoding="utf-8")
