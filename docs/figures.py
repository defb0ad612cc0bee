"""`make figures`: write the figures that README shows, from the bundles' model.json and from docs/results/bench.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from models import bundle as bundles

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures: written by `make figures` -->", "<!-- end of figures -->"
ALONE = "single "
"""In the split of a figure that is not the ensemble's."""
SHOWN = {
    "sisc_lung": [
        ("AUC by nodule", "LIDC-IDRI, set I", ""),
        ("AUC by nodule, at least three readers", "LIDC-IDRI, set I", ""),
    ],
    "clear_dr": [
        ("quadratic weighted kappa", "IDRiD grading", "official test"),
        ("AUC, referable (grade >= 2)", "IDRiD grading", "official test"),
        ("quadratic weighted kappa", "EyePACS, natural colour", ALONE),
        ("AUC, referable (grade >= 2)", "EyePACS, natural colour", ALONE),
    ],
}
"""Figure, data set, and what its split says."""


def rows() -> list[str]:
    """Lines of the table: model, figure with its interval, n, data set, date."""
    lines = [
        "| model | figure | value (95 % interval) | n | data, unseen patients | date |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, wanted in SHOWN.items():
        for entry in bundles.load(ROOT / "models" / name).description["metrics"]:
            if any((entry["name"], entry["data_set"]) == (f, d) and split in entry["split"] for f, d, split in wanted):
                low, high = entry["interval"]
                data = entry["data_set"] + (", single networks" if ALONE in entry["split"] else "")
                value = f"**{entry['value']:.3f}** ({low:.3f} to {high:.3f})"
                lines.append(f"| `{name}` | {entry['name']} | {value} | {entry['n']} | {data} | {entry['date']} |")
    return lines


def costs(bench: dict[str, Any]) -> list[str]:
    """What maps and service cost, in a sentence each."""
    lines = []
    for name, classes in (("sisc_lung", 2), ("clear_dr", 5)):
        figures = bench["sections"][name]
        cost = figures[f"prediction + all class maps against {1 + classes} forward passes, batch 1"]["ratio"]
        peers = [
            figures[f"Captum {peer} (PyTorch), all classes, against ours"]["ratio"]
            for peer in ("Deconvolution", "GradCAM")
        ]
        lines.append(
            f"- `{name}`: prediction and all {classes} maps take {cost:.2f} times as long as {1 + classes} plain forward passes; "
            f"Captum's Deconvolution takes {peers[0]:.1f} times as long as ours, GradCAM {peers[1]:.1f} times."
        )
    pacs, cstore = bench["sections"]["pacs"], bench["sections"]["cstore"]
    ct, eye = (pacs[name] for name in pacs)
    lines.append(
        f"- In the PACS: from the last of 300 CT slices to the report at its destination {ct['p50']:.1f} s "
        f"(p95 {ct['p95']:.1f} s), of which {ct['of which waiting for late slices']:g} s wait for late slices; "
        f"for a photograph {eye['p50']:.2f} s "
        f"(p95 {eye['p95']:.2f} s)."
    )
    four, ratios = (
        cstore["4 association(s)"],
        [cstore[f"C-STORE, 4 association(s): Pellucid against {peer}"]["ratio"] for peer in ("storescp", "Orthanc")],
    )
    lines.append(
        f"- C-STORE, 4 associations: {four['Pellucid, objects/s']} CT slices a second, each on the disk before it is "
        f"acknowledged; {ratios[0]:.1f} times as long as storescp, {ratios[1]:.1f} times as long as Orthanc."
    )
    service = bench["sections"]["service"]
    ready, memory = service["time to ready, s"]["value"], service["resident memory when ready, MB"]["server"]
    lines.append(
        f"- The service is ready after {ready} s with {memory} MB. Details: [docs/benchmarks.md](docs/benchmarks.md)."
    )
    return lines


def written(readme: str) -> str:
    """README with its figures renewed."""
    bench = json.loads((ROOT / "docs/results/bench.json").read_text(encoding="utf-8"))
    head, rest = readme.split(BEGIN)
    return "\n".join([head + BEGIN, *rows(), "", *costs(bench), END + rest.split(END)[1]])


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
