"""`make bench`: run all benchmarks, write ``docs/results/bench.json`` and ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from typing import Any

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""PyTorch is tuned fairly: without these glibc gives its large tensors back to the kernel after every call."""


SECTIONS = ("sisc_lung", "clear_dr", "service", "cstore", "pacs", "viewer")


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Two things are run in turn; the ratio is the median over pairs, with the smallest and the",
        "largest in brackets. 2 threads, float32, real images of test patients (LIDC-IDRI middle slices, IDRiD test split).",
        "",
        "A forward pass is the floor: the way back needs the same convolutions once a class. What it needs besides (switches,",
        "gates, and changing between ONNX Runtime's blocked layout and the plain one) is the rest of the ratio. Hardly any map",
        "is zero on real images, so leaving zero maps out saves little; see the share below the table.",
        "",
        f"{results['machine']}. Measured: "
        + "; ".join(f"`{name}` {when['date']}, commit `{when['commit']}`" for name, when in results["measured"].items())
        + ".",
        "",
        "| what | ratio | range | ms | rounds |",
        "| --- | --- | --- | --- | --- |",
    ]
    rest = []
    for section, figures in results["sections"].items():
        for name, figure in figures.items():
            if isinstance(figure, dict) and "ratio" in figure:
                low, high = figure["range"]
                times = " / ".join(str(v) for v in figure["ms"])
                lines.append(
                    f"| `{section}`: {name} | **{figure['ratio']}** | {low} to {high} | {times} | {figure['rounds']} |"
                )
            else:
                values = ", ".join(f"{k} {v}" for k, v in figure.items()) if isinstance(figure, dict) else figure
                rest.append(f"- `{section}`: {name}: {values}")
    return "\n".join([*lines, "", *rest, ""])


def main() -> int:
    """Run what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of every comparison")
    parser.add_argument("--only", choices=SECTIONS, default=None)
    given = parser.parse_args()
    if not MALLOC.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, **MALLOC})
    from benchmarks import cstore, maps, pacs, server, viewer
    from training.bundles import commit, today
    from training.data import ROOT

    sections: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    path = ROOT / "docs" / "results" / "bench.json"
    if given.only and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        sections, measured = before["sections"], before["measured"]
    doors = {"service": server.measure, "cstore": cstore.measure, "pacs": pacs.measure, "viewer": viewer.measure}
    for name in SECTIONS:
        if given.only in (None, name):
            print(f"{name} ...", flush=True)
            measure = doors.get(name)
            sections[name] = measure(given.rounds) if measure else maps.measure(name, given.rounds)
            measured[name] = {"date": today(), "commit": commit()}
    results = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "measured": measured,
        "sections": sections,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = table(results)
    (ROOT / "docs" / "benchmarks.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
