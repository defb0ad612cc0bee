"""The comparison of explanations on the retina as a page: tables, a picture, and the numbers behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from models.bundle import digest
from training.bundles import today
from training.comparison import cell, code, rounded, table
from training.data import ROOT, shared_data
from training.explanations import Method, methods
from training.response_maps.onnx_graph import read_members
from training.retina.comparison import CURVE_PATCH_PX, CURVE_SHARES, DEFAULT, Settings, Task, key, perform_all, tasks
from training.retina.comparison_summary import CLASSES, CURVES, PLACE, summarise
from training.retina.figures import draw
from training.retina.lesions import KINDS, PIXELS, names

BY_GRADE = (DEFAULT, "guided, class", "Grad-CAM", "LRP-z+", "local contrast")


def first(result: dict[str, Any], get: Callable[[dict[str, Any]], dict[str, Any]]) -> set[str]:
    """The methods with the largest value, of those that were measured on as many photographs as the default."""
    entries = {name: get(of) for name, of in result["methods"].items() if of["kind"] != "control"}
    full = {name: e["value"] for name, e in entries.items() if e["n"] and e["n"] == entries[DEFAULT]["n"]}
    return {name for name, value in full.items() if value == max(full.values())}


def _named(result: dict[str, Any], name: str) -> str:
    return f"control: {name}" if result["methods"][name]["kind"] == "control" else code(name)


def of_place(result: dict[str, Any], question: str) -> str:
    """Table of a question: shares, ratios, pointing."""
    best = {f: first(result, lambda of, f=f: of[question][f]) for f in PLACE}  # type: ignore[misc]
    lines = [["method", "n", "share", "ratio", "default - this", "pointing", "pointing, exact"]]
    for name, method in result["methods"].items():
        of = method[question]
        share = cell(of["lesions"], interval=True, first=name in best["lesions"])
        points = (cell(of[f], interval=True, first=name in best[f]) for f in PLACE[1:])
        behind = "" if name == DEFAULT else cell(of["default_minus_this"], interval=True)
        ratio = cell(of["lesions"].get("ratio"), interval=True)
        lines.append([_named(result, name), str(of["lesions"]["n"]), share, ratio, behind, *points])
    null = result["methods"][DEFAULT][question]
    chance = [f"{null[f]['null']:.3f}" if "null" in null[f] else "" for f in PLACE]
    return table([*lines, ["null", "", chance[0], "1", "", *chance[1:]]])


def of_types(result: dict[str, Any]) -> str:
    """Table of the lesions' types and of the disc: share and its ratio to the null."""
    default = result["methods"][DEFAULT]["types"]
    lines = [["method", *(f"{kind} (n = {default[kind]['n']})" for kind in KINDS)]]
    for name, method in result["methods"].items():
        entries = [method["types"][kind] for kind in KINDS]
        full = [entry["n"] == default[kind]["n"] for entry, kind in zip(entries, KINDS, strict=True)]
        mark = ["" if all(full) else f" (n = {entry['n']})" for entry in entries]
        lines.append(
            [
                _named(result, name),
                *(
                    f"{cell(e)} ({cell(e.get('ratio')) or '-'} x){m}" if e["n"] else ""
                    for e, m in zip(entries, mark, strict=True)
                ),
            ]
        )
    nulls = [f"{default[kind]['null']:.4f}" if default[kind]["n"] else "" for kind in KINDS]
    return table([*lines, ["null", *nulls]])


def of_grades(result: dict[str, Any], group: str) -> str:
    """Table by grade said or true: share and its ratio."""
    lines = [[f"grade {group}", "n", "null", *(_named(result, name) for name in BY_GRADE)]]
    for grade, default in result["methods"][DEFAULT][group].items():
        entries = [result["methods"][name][group][grade]["lesions"] for name in BY_GRADE]
        cells = [f"{cell(entry)} ({cell(entry.get('ratio')) or '-'} x)" for entry in entries]
        lines.append([grade, str(default["lesions"]["n"]), f"{default['lesions']['null']:.3f}", *cells])
    return table(lines)


def of_all(result: dict[str, Any]) -> str:
    """Table of what needs no lesion: class correlation, curves, stability, randomisation, time."""
    known = (*CLASSES, *CURVES, "stability")
    random = [f for f in result["methods"][DEFAULT] if f.startswith("randomisation")]
    lines = [["method", *(f.replace("_", " ") for f in (*known, *random)), "s a photograph"]]
    for name, method in result["methods"].items():
        cells = [
            f"{cell(method[f])} (n = {method[f]['n']})" if method.get(f, {}).get("n") else "" for f in (*known, *random)
        ]
        seconds = method["seconds"]
        lines.append([_named(result, name), *cells, "" if seconds is None else f"{seconds:.1f}"])
    return table(lines)


def of_held(result: dict[str, Any]) -> str:
    """Table of the photographs that chose the default: our rules and starts."""
    lines = [["rule, start", "n", "share", "ratio", "pointing", "class correlation"]]
    for name, of in result["held_out"]["methods"].items():
        share = of["grade"]["lesions"]
        cells = [cell(share, interval=True), cell(share.get("ratio")), cell(of["grade"]["pointing"])]
        lines.append([code(name), str(share["n"]), *cells, cell(of["class_correlation"])])
    return table(lines)


def effects_table(result: dict[str, Any]) -> str:
    """Table of what filling does to the answers."""
    heads = ("referable", "expected_grade", "expected_grade_change", "answer_changes")
    lines = [["network's input", "p(referable)", "expected grade", "its change", "another answer"]]
    for change, of in result["effects"].items():
        lines.append([change, *(cell(of[head], interval=True) for head in heads)])
    return table(lines)


def page(result: dict[str, Any], caption: str) -> str:
    """The whole page in Markdown."""
    s = result["settings"]
    said = ", ".join(f"{count} grade {grade}" for grade, count in result["said"].items() if count)
    parts = [
        "# Explanations of the retina network against drawn lesions",
        (
            f"Written by `python -m training.retina compare`, {result['date']}. {result['data_set']}; {result['photographs']} "
            f"photographs, answered {said}; {result['graded']} of them have a reference grade, {result['right']} of these "
            f"answers are right. Networks: {result['members']}; weights {result['weights'][:12]}. Masks of microaneurysms (MA), "
            "haemorrhages (HE), hard (EX) and soft exudates (SE) and the optic disc (OD) on the 512 px of the network's input. "
            "Intervals: 95 %, bootstrap over photographs. **Bold**: first among the methods that were measured on all "
            "photographs."
        ),
        "## Does the grade's map lie on lesions?",
        "The map of the answered grade, photographs that were answered grade 2 or worse.",
        of_place(result, "grade"),
        "## Does the evidence for referable disease lie on lesions?",
        (
            "Ours: the sum of the positive maps of grades 2 to 4. Peers: the log-odds of grades 2 to 4 against 0 and 1. All "
            "photographs."
        ),
        of_place(result, "referable"),
        "## Which lesions, and the disc",
        "Evidence for referable disease, photographs on which the type was drawn: share (ratio to the type's null).",
        of_types(result),
        "## By grade",
        "The map of the answered grade: share on lesions (ratio to the null).",
        of_grades(result, "said"),
        of_grades(result, "true"),
        "## What the answer rests on",
        (
            f"Lesions or the disc, and {s['margin_px']} px around, are filled with the mean of their surroundings (Gaussian of "
            "16 px); turned lesions: the same shapes turned by 180 degrees, an equally large region elsewhere. Empty: the input "
            "is zero."
        ),
        effects_table(result),
        "## Classes, curves, checks, time",
        of_all(result),
        (
            f"Deletion and insertion: areas under p(answered grade) in steps of {CURVE_PATCH_PX} px patches, shares "
            f"{', '.join(f'{share:g}' for share in CURVE_SHARES)}; the baseline is zero, which in the network's input is the "
            "local mean of every channel: a retina without detail. The control `noise` is a random order, `turned lesions` an "
            f"equally large region elsewhere. Stability: noise +-{s['noise']:g} standard deviations, {s['draws']} draw(s). "
            f"Integrated Gradients ({s['steps']} steps) and LRP-gamma were measured on {s['costly']} photographs, occlusion on "
            f"{s['occluded']}, curves on {s['curves']}, stability, randomisation and the peers' class correlation on "
            f"{s['checked']}: the first ones in one random order. Time: processor seconds of one thread; ours give the maps "
            "of all five grades, a peer's answers one question, occlusion's passes serve all."
        ),
    ]
    if result["held_out"]["photographs"]:
        parts += [
            "## What chose rule and start",
            (
                f"{result['held_out']['photographs']} of IDRiD's lesion training photographs, each explained by the single "
                "network of the ensemble that left it out; those answered grade 2 or worse."
            ),
            of_held(result),
        ]
    how = [["method", "how"], *([_named(result, name), of["text"]] for name, of in result["methods"].items())]
    formulas = [["figure", "formula"], *([name, text.replace("|", "\\|")] for name, text in result["formulas"].items())]
    parts += ["## Picture", f"![Maps of a few photographs](retina_evidence.png)\n\n{caption} Pixels: {PIXELS}."]
    parts += ["## Methods", table(how), "## Formulas", table(formulas)]
    return "\n\n".join(parts) + "\n"


def explained(settings: Settings) -> dict[str, Method]:
    """All methods with the text that the page gives them."""
    found = methods(settings.steps, settings.patch_px, settings.stride_px)
    text = (
        f"{settings.patch_px} px patch of zeros, stride {settings.stride_px} px, fall of the log-odds; one pass a patch serves "
        "all classes"
    )
    return found | {"occlusion": Method(text, found["occlusion"].maps)}


def write(
    results: Path,
    weights: Path,
    held: Sequence[Sequence[str]] = (),
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    data: Path | None = None,
    cache: Path = ROOT / "runs" / "retina" / "evidence",
) -> dict[str, Any]:
    """Measure an exported graph and write ``retina_evidence.json``, ``.md`` and ``.png``.

    Parameters
    ----------
    results : Path
        Folder to write into.
    weights : Path
        The graph; ``model.json`` beside it names the classes' colours.
    held : sequence of sequences of str
        Of every member the lesion photographs that it left out (`training.retina.lesions.left_out`): they may choose rule and
        start.
    settings : Settings, optional
    workers : int, optional
        Photographs at a time; as many as processors unless given.
    data : Path, optional
        Folder of the data sets.
    cache : Path
        Where the photographs' numbers are kept; delete it to measure again.

    Raises
    ------
    ValueError
        When `held` does not have one part a member.
    """
    members, _ = read_members(onnx.load(weights))
    if held and len(held) != len(members):
        raise ValueError(f"{len(members)} networks cannot have left out {len(held)} parts")
    settings, data = settings or Settings.affordable(len(members)), data or shared_data()
    folder = cache / key(weights, settings)
    count = (os.cpu_count() or 1) if workers is None else workers
    numbers = perform_all(tasks(names(data, "test"), settings), weights, data, folder, settings, count)
    single = [Task(name, (member,), peers=False) for member, of in enumerate(held) for name in of]
    choices = perform_all(single, weights, data, folder / "held", settings, count) if single else []
    made = summarise(numbers, choices, explained(settings))
    about = {"date": today(), "members": len(members), "weights": digest(weights), "settings": asdict(settings)}
    result = dict(rounded(about | made))
    results.mkdir(parents=True, exist_ok=True)
    caption = draw(results / "retina_evidence.png", numbers, folder, data, weights.parent)
    (results / "retina_evidence.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (results / "retina_evidence.md").write_text(page(result, caption), encoding="utf-8")
    return result
