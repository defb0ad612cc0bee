"""Model card: CARD.md, rendered from ``model.json`` and nothing else."""

from __future__ import annotations

from typing import Any


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(_number(cell) for cell in row) + " |" for row in rows] + [""]


def _cases(cases: dict[str, Any]) -> list[str]:
    """The known cases, and how well the nearest of them tell the truth of unseen patients."""
    lines = ["## Similar known cases", "", f"{cases['n']} public cases to compare with: {cases['data_set']}.", ""]
    lines += [f"`{cases['file']}`, SHA-256 `{cases['sha256']}`.", ""]
    head = ["neighbours' figure", "value", "95 % interval", "null", "n", "data set", "split", "formula", "date"]
    rows = [
        [e["name"], e["value"], f"{e['interval'][0]:.3f} to {e['interval'][1]:.3f}", e.get("null", "")]
        + [e[key] for key in ("n", "data_set", "split", "formula", "date")]
        for e in cases["evidence"]
    ]
    return lines + _table(head, rows)


def _with_interval(point: dict[str, Any], key: str) -> str:
    """Sensitivity or specificity, with its 95 % interval where one was measured."""
    low_high = point.get(f"{key}_interval")
    return _number(point[key]) + (f" ({low_high[0]:.3f} to {low_high[1]:.3f})" if low_high else "")


def render(description: dict[str, Any]) -> str:
    """Markdown text of the card.

    Parameters
    ----------
    description : dict
        A ``model.json`` that fits the schema.
    """
    d = description
    lines = [f"# {d['title']} (`{d['name']}` {d['version']})", "", d["description"], ""]
    lines += ["**Research use. Not for primary diagnosis.**", ""]
    lines += [f"Weights: `{d['weights']['file']}`, SHA-256 `{d['weights']['sha256']}`.", ""]
    lines += ["## Limits of use", "", *(f"- {limit}" for limit in d["limits_of_use"]), ""]
    tensor = d["input"]["tensor"]
    lines += [
        "## Input",
        "",
        (
            f"Modality {', '.join(d['input']['modality'])}; "
            f"tensor `{tensor['name']}`, {tensor['datatype']}, shape {tensor['shape']}."
        ),
        "",
    ]
    for step in d["input"]["preprocessing"]:
        parameters = ", ".join(f"{k} = {v}" for k, v in step.get("parameters", {}).items())
        lines.append(f"- `{step['step']}`" + (f" ({parameters})" if parameters else ""))
    for name, (low, high) in d["input"].get("ranges", {}).items():
        lines.append(f"- range of the training set, `{name}`: {low} to {high}")
    lines += ["", "## Classes", ""]
    lines += _table(
        ["class", "label", "code", "colour"],
        [
            [
                c["name"],
                c["label"],
                f'({c["code"]["value"]}, {c["code"]["scheme"]}, "{c["code"]["meaning"]}")',
                c["color"],
            ]
            for c in d["classes"]
        ],
    )
    lines += ["## Operating points", ""]
    lines += _table(
        ["name", "score", "threshold", "sensitivity", "specificity", "n", "data set"],
        [
            [
                p["name"] + (" (default)" if p.get("default") else ""),
                "p(" + ") + p(".join(p["score_classes"]) + ")",
                p["threshold"],
                *(_with_interval(p, key) for key in ("sensitivity", "specificity")),
                p["n"],
                p["data_set"],
            ]
            for p in d["operating_points"]
        ],
    )
    lines += ["## Metrics", ""]
    lines += _table(
        ["metric", "value", "95 % interval", "n", "data set", "split", "date"],
        [
            [
                m["name"],
                m["value"],
                f"{m['interval'][0]:.3f} to {m['interval'][1]:.3f}",
                m["n"],
                m["data_set"],
                m["split"],
                m["date"],
            ]
            for m in d["metrics"]
        ],
    )
    calibration = ", ".join(f"{key.replace('_', ' ')}: {_number(value)}" for key, value in d["calibration"].items())
    lines += ["## Calibration", "", calibration or "Not measured.", ""]
    maps = d["response_maps"]
    lines += [
        "## Response maps",
        "",
        f"Rule `{maps['rule']}`, start `{maps['start']}`; scale `per_model`: {maps['reference']:.4g}.",
        "",
    ]
    if d["evidence"]:
        lines += _table(
            ["evidence", "value", "null", "n", "data set", "formula"],
            [[e["name"], e["value"], e.get("null", ""), e["n"], e["data_set"], e["formula"]] for e in d["evidence"]],
        )
    if "cases" in d:
        lines += _cases(d["cases"])
    lines += ["## Training", "", d["training"]["split"], ""]
    for source in d["training"]["data"]:
        lines.append(f"- {source['name']}: {source['what']} ({source['licence']})")
    rebuild = d["rebuild"]
    lines += [
        "",
        "## How to rebuild",
        "",
        "```",
        *rebuild["commands"],
        "```",
        "",
        f"Seed {d['training']['seed']}, commit `{rebuild['commit']}`.",
    ]
    lines += [rebuild["note"]] if rebuild.get("note") else []
    return "\n".join([*lines, ""])
