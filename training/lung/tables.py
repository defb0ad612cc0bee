"""The text of ``docs/results/lung_protocol.md`` from the measured figures."""

from __future__ import annotations

from typing import Any

from training.lung.protocol import AGGREGATIONS, FIGURES, GAUSSIAN_MM, LEVELS, SERVICE, SETS

TITLES = {
    "I": 'set "I", score 3 left out',
    "B": 'set "B", score 3 counts as benign',
    "M": 'set "M", score 3 counts as malignant',
}
HEADS = ("accuracy", "sensitivity", "specificity", "AUC")
NONE = "–"


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A figure, or a dash where it is not defined."""
    return NONE if value is None else f"{round(value, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")


def interval(entry: dict[str, Any], sign: str = "") -> str:
    """A value with its interval: ``0.915 (0.862 to 0.957)``."""
    low, high = (number(v, sign=sign) for v in entry["interval"])
    return f"{number(entry['value'], sign=sign)} ({low} to {high})"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)] + [""]


def verdict(difference: dict[str, Any]) -> str:
    """What the interval of a paired difference to the diameter says."""
    low, high = difference["interval"]
    if low is None or low <= 0 <= high:
        return "not told apart from the diameter alone"
    return "better than the diameter alone" if low > 0 else "worse than the diameter alone"


def _published(results: dict[str, Any], subset: str) -> list[str]:
    cells = []
    for name in FIGURES:
        known = results["published"][subset].get(name)
        mean, sd = known if isinstance(known, list) else (known, None)
        cells.append(number(mean, 4) + (f" ± {number(sd, 4)}" if sd is not None else ""))
    return ["published: by slice, split by image", *cells]


def _main_table(results: dict[str, Any], subset: str, level: str) -> list[str]:
    found = results["sets"][subset][level]
    whole = found["groups"]["all"]
    rows = []
    for name, title in (("network", "network"), ("diameter", "diameter alone")):
        folds = [
            f"{number(found['folds'][name][f]['mean'])} ± {number(found['folds'][name][f]['sd'])}" for f in FIGURES
        ]
        rows.append([f"{title}, mean ± sd of ten folds", *folds])
        rows.append([f"{title}, all folds together", *(interval(whole[name][f]) for f in FIGURES)])
    rows.append(["**network − diameter**, paired", *(interval(whole["difference"][f], "+") for f in FIGURES)])
    rows.append(["always the commoner class", interval(whole["commoner class"]), "", "", ""])
    rows.append(_published(results, subset))
    counts = f"{whole['n']} {level}s of {whole['patients']} patients, {whole['malignant']} malignant"
    return [f"### {subset}, by {level}", "", f"{counts}.", "", *table(["", *HEADS], rows)]


def _groups(results: dict[str, Any], subset: str) -> list[str]:
    rows = []
    for level in LEVELS:
        for name, group in results["sets"][subset][level]["groups"].items():
            if name == "all":
                continue
            rows.append(
                [
                    f"{name}, by {level}",
                    f"{group['n']} ({group['malignant']})",
                    interval(group["network"]["auc"]),
                    interval(group["diameter"]["auc"]),
                    interval(group["difference"]["auc"], "+"),
                    number(group["network"]["sensitivity"]["value"]),
                    number(group["network"]["specificity"]["value"]),
                ]
            )
    head = ["cases", "n (malignant)", "AUC, network", "AUC, diameter", "difference", "sensitivity", "specificity"]
    return [f"### {subset}, by number of readers and by size", "", *table(head, rows)]


def _ratings(results: dict[str, Any]) -> list[str]:
    rows = [
        [f"{subset}, {name}", str(group["n"]), interval(group["auc"]), interval(group["difference"], "+")]
        for subset, groups in results["ratings"].items()
        for name, group in groups.items()
        if subset == "I" or name == "all"
    ]
    return table(["nodules", "n", "AUC of the readers' own ratings", "network minus that"], rows)


def _calibration(results: dict[str, Any]) -> list[str]:
    head = ["set", "probabilities", "ECE, 10 bins of equal width", "ECE, 10 bins of equal mass", "Brier score"]
    rows = []
    for subset in SETS:
        for level in LEVELS:
            for state in ("uncalibrated", "calibrated"):
                found = results["sets"][subset][level][state]
                errors = [interval(found[name]) for name in ("ECE, equal width", "ECE, equal mass", "Brier")]
                line = [" to ".join(number(v, 2) for v in found.get(k, [])) for k in ("slope", "intercept")]
                rows.append([f"{subset}, by {level}", state, *errors, *line])
    return table([*head, "slope", "intercept"], rows)


def _operating_points(results: dict[str, Any]) -> list[str]:
    rows = []
    for subset in SETS:
        for level in LEVELS:
            for name, point in results["sets"][subset][level]["operating points"].items():
                low, high = point["thresholds"]
                rows.append(
                    [
                        f"{subset}, by {level}",
                        name,
                        f"{number(low)} to {number(high)}",
                        *(interval(point[f]) for f in ("sensitivity", "specificity", "accuracy")),
                    ]
                )
    return table(["set", "aim", "thresholds of the ten folds", "sensitivity", "specificity", "accuracy"], rows)


def _aggregations(results: dict[str, Any]) -> list[str]:
    rows = []
    for rule, (_, service) in AGGREGATIONS.items():
        cells = []
        for subset in SETS:
            found = results["aggregations"][subset][rule]
            cells += [number(found["auc"]["value"]), NONE if rule == SERVICE else interval(found["difference"], "+")]
        rows.append([f"**{rule}**" if rule == SERVICE else rule, "yes" if service else "no", *cells])
    head = ["rule", "service can", *(f"{s}: {what}" for s in SETS for what in ("AUC", "difference to the first"))]
    return table(head, rows)


def _leaky(results: dict[str, Any]) -> list[str]:
    if "leaky" not in results:
        return ["Not measured: there are no answers of networks trained on that split.", ""]
    rows = []
    for subset in SETS:
        found = results["leaky"][subset]
        for name, title in (("leaky", "split by slice"), ("honest", "split by patient")):
            rows.append([f"{subset}, {title}", str(found["n"]), *(interval(found[name][f]) for f in FIGURES)])
        rows.append([f"**{subset}, gap**, paired", "", *(interval(found["difference"][f], "+") for f in FIGURES)])
        rows.append([f"{subset}, {_published(results, subset)[0]}", "", *_published(results, subset)[1:]])
    networks = results["leaky"]["I"]["networks"]
    trained = f"{networks} network{'s' if networks > 1 else ''}"
    seen = f"{100 * results['leaky']['seen']:.0f} %"
    text = (
        f"The same slices, answered by {trained} trained on 80 % of all slices (split by slice, as published: patients and\n"
        "nodules on both sides) and by the networks of the split by patient, which learnt from 70 % of the patients and never\n"
        f"from those they answered to. {seen} of the test slices belong to a nodule with other slices outside of the test part.\n"
        "Yes means a probability of at least 0.5 in both."
    )
    return [
        text,
        "",
        *table(["", "slices", *HEADS], rows),
    ]


def _study(results: dict[str, Any]) -> list[str]:
    if "study" not in results:
        return ["Not measured: there are no answers of networks trained on parts of the patients.", ""]
    rows = []
    for point in results["study"]:
        nodule, slices = point["I, nodule"], point["I, slice"]
        rows.append(
            [
                f"{100 * point['share']:g} %",
                str(point["train_nodules"]),
                str(point["train_slices"]),
                interval(nodule["network"]),
                interval(nodule["difference"], "+"),
                interval(slices["network"]),
                *(interval(point[f"{s}, nodule"]["network"]) for s in ("B", "M")),
            ]
        )
    first = results["study"][0]["I, nodule"]
    head = [
        "patients",
        "nodules",
        "slices",
        "I, by nodule",
        "I, minus diameter",
        "I, by slice",
        "B, by nodule",
        "M, by nodule",
    ]
    text = (
        f"AUC on the same held-out patients (I: {first['n']} nodules) of networks that learnt from a share of the other\n"
        f"patients. The diameter alone: {interval(first['diameter'])} on I by nodule."
    )
    return [
        text,
        "",
        *table(head, rows),
        "![AUC against the number of training nodules](lung_training_size.svg)",
        "",
    ]


def _ensemble(results: dict[str, Any]) -> list[str]:
    if "ensemble" not in results:
        return ["Not measured: there are no answers of an ensemble.", ""]
    keys = (("ensemble", ""), ("single", ""), ("to single", "+"), ("diameter", ""), ("to diameter", "+"))
    rows = [[name, str(f["n"]), *(interval(f[k], sign) for k, sign in keys)] for name, f in results["ensemble"].items()]
    head = ["AUC", "n", "ensemble", "single networks", "ensemble − single", "diameter", "ensemble − diameter"]
    return table([head[0], *head[1:]], rows)


def _cost(results: dict[str, Any]) -> list[str]:
    rows = [
        [
            entry["name"],
            str(entry["networks"]),
            *(number(entry[k], 0) for k in ("train nodules", "train slices", "parameters", "seconds")),
            number(entry["images/s"], 0),
        ]
        for entry in results["cost"]
    ]
    head = ["training", "networks", "nodules", "slices", "parameters", "seconds", "images/s"]
    return [f"Means of one network, the ensemble's members together, on {results['hardware']}.", "", *table(head, rows)]


PAGE = """\
# Lung model: the published protocol on unseen patients

Written by `python -m training.lung report` from the answers that the trainings left. All numbers are in
[lung_protocol.json](lung_protocol.json).

On set I, by nodule, for patients that the network has not seen: **AUC {auc}**.
The readers' mean diameter alone reaches {diameter} on the same nodules; the difference is
{difference}: {verdict}. The published 0.9601 was measured by slice, with slices of one
nodule on both sides of the split.

![ROC curves by nodule](lung_roc_nodule.svg)

## How it was measured

- LIDC-IDRI, {patients} patients in ten folds by a hash of the patient's name. No network learnt from a patient it answers to.
  Each of {networks} left out one fold, which it answers to, and the test folds 0 and 1, so that all of them together, the
  ensemble, have not seen the test patients; the first two answer to one test fold each as well. Truth is the rounded mean
  of the readers' scores (half up), not pathology.
- One network, trained on soft labels from all scores, serves the sets I, B and M: only the truth differs.
- *Mean ± sd of ten folds*: each fold measured alone; sd with n − 1. *All folds together*: the answers to all folds
  pooled, with the percentile bootstrap 95 % interval of {draws} draws of whole patients. Differences are paired: both sides
  on the same draws. The intervals do not contain the chance of the training itself.
- The threshold for accuracy, sensitivity and specificity of a fold has the greatest sensitivity + specificity (Youden) on
  the held-out answers of the other nine folds, never on the fold itself; the same for the diameter. The networks that gave
  those other answers may have learnt from this fold, as in every cross-validation that is not nested. The bootstrap leaves
  the thresholds as they are.
- *Diameter alone*: the mean of the readers' diameters is the score; by slice, every slice has its nodule's. It comes from the
  readers' contours, which the network does not get as input. The network's windows are centred on them.
- By nodule: the mean probability over the middle slice and those within 2.5 mm of it, the service's rule.
- Nodules whose ratings match the contours only partly were learnt from, not measured with.
- Of the thesis' tables 4.2 to 4.5 only the figures printed here were at hand; – stands for the others.

## Table 4.1: the data

Mean malignancy rounded half up. The published counts take the nodules of all readers.

{table_41}
{sets}
8.0 and 15.0 mm belong to the middle group. The thresholds are those of all sizes together.

## What the readers' own ratings tell

An upper mark: a random forest expects the malignancy score from the seven other ratings that the same readers gave the nodule
(spiculation, calcification ...) and from the diameter, each nodule's from the other nine folds. Even who knows all of that
does not tell the scores better, for many are one reader's alone; a network has only the pixels.

{ratings}
## ROC curves (figures 4.5 to 4.8)

By nodule above, by slice here. Thin: each fold. Thick: all folds together, with the bootstrap 95 % band. Dashed: the diameter
alone. The marks are the operating points below; their thresholds come from other folds, so they need not lie on the thick
line.

![ROC curves by slice](lung_roc_slice.svg)

## Operating points

Thresholds for the probability, chosen on the other nine folds: lowest and highest of the ten.

{operating_points}
## Calibration

Slope and intercept for the log-odds of a slice (Platt), fitted on the other nine folds so that, by nodule, the mean over the
central slices is calibrated; lowest and highest of the ten. Draws add to a calibration error that is near 0: its intervals
lie a little high.

{calibration}
Bars: bootstrap 95 % intervals.

![Reliability by nodule](lung_reliability.svg)

## From slices to a nodule

Central slices: the middle one and those within 2.5 mm. Gaussian weights: exp(−d² / (2 ({gaussian} mm)²)), d the distance from
the middle slice. All rules take only slices that hold the nodule. The service knows the centre of a nodule and not where it
ends: it can apply a rule only where the table says so. Its rule was fixed before; nothing was chosen from this table.

{aggregations}
## What the leaky split adds

{leaky}
## Training size (figure 4.9)

{study}
## Ensemble

{ensemble}
## Cost

{cost}
"""


def markdown(results: dict[str, Any]) -> str:
    """The whole page; `results` as in ``lung_protocol.json``."""
    whole = results["sets"]["I"]["nodule"]["groups"]["all"]
    sets = []
    for subset in SETS:
        sets += [f"## Tables 4.2 to 4.5: {TITLES[subset]}", ""]
        sets += [line for level in LEVELS for line in _main_table(results, subset, level)] + _groups(results, subset)
    head = ["malignancy", "nodules", "slices", "nodules measured", "slices measured", "published slices"]
    parts = {
        "table_41": table(head, [[str(v) for v in row.values()] for row in results["table 4.1"]]),
        "sets": sets,
        "operating_points": _operating_points(results),
        "ratings": _ratings(results),
        "calibration": _calibration(results),
        "aggregations": _aggregations(results),
        "leaky": _leaky(results),
        "study": _study(results),
        "ensemble": _ensemble(results),
        "cost": _cost(results),
    }
    text = PAGE.format(
        auc=interval(whole["network"]["auc"]),
        diameter=interval(whole["diameter"]["auc"]),
        difference=interval(whole["difference"]["auc"], "+"),
        verdict=verdict(whole["difference"]["auc"]),
        patients=results["patients"],
        draws=results["draws"],
        networks=results["cost"][0]["networks"],
        gaussian=GAUSSIAN_MM,
        **{name: "\n".join(lines) for name, lines in parts.items()},
    )
    return text.rstrip() + "\n"
