"""Pin every dependency: read the three ``.in`` files, ask pip what it would install, write the three ``.txt`` files.

Run as ``make lock``. Each set is resolved together with the sets below it (service < training < test), and its file holds
only what it adds, after a ``-r`` line for the set below. Lines with an environment marker are copied as they stand, so that
platforms other than this one keep their own pin. The part of a version behind "+" (the build, as in +cpu) is left out: which
build is taken is the business of the machine that installs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SETS = ("service", "training", "test")


def canonical(name: str) -> str:
    """Name of a distribution as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(sources: list[Path]) -> list[dict[str, Any]]:
    """Metadata of everything pip would install for these requirement files into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    for source in sources:
        command += ["-r", str(source)]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return [entry["metadata"] for entry in report["install"]]


def lock(index: int, above: set[str]) -> set[str]:
    """Write the file of one set; `above` holds the names pinned by the sets below it. Returns all names pinned so far."""
    sources = [FOLDER / f"{name}.in" for name in SETS[: index + 1]]
    direct = [line for line in sources[-1].read_text().splitlines() if line and not line.startswith("#")]
    marked = {canonical(line.split("==")[0]): line for line in direct if ";" in line}
    chosen = {canonical(line.split("==")[0]) for line in direct}
    packages = {canonical(entry["name"]): entry for entry in resolve(sources)}
    wanted_by: dict[str, set[str]] = {}
    for name, entry in packages.items():
        for requirement in entry.get("requires_dist", []):
            if "extra ==" not in requirement:
                wanted_by.setdefault(canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]), set()).add(name)
    lines = dict(marked)
    for name, entry in packages.items():
        if name in above or name in marked:
            continue
        pin = f"{name}=={entry['version'].split('+')[0]}"
        lines[name] = pin if name in chosen else f"{pin}  # via {', '.join(sorted(wanted_by.get(name, set())))}"
    header = [
        f"# Written by `make lock` (requirements/lock.py) from {SETS[index]}.in; edit that file, not this one.",
        f"# Resolved on {sys.platform} with Python {sys.version_info.major}.{sys.version_info.minor}.",
        f"# Install with: pip install -r requirements/{SETS[index]}.txt",
    ]
    below = [f"-r {SETS[index - 1]}.txt"] if index else []
    text = "\n".join(header + below + [lines[name] for name in sorted(lines)]) + "\n"
    (FOLDER / f"{SETS[index]}.txt").write_text(text)
    return above | set(lines)


def main() -> None:
    """Lock the sets in order."""
    pinned: set[str] = set()
    for index, name in enumerate(SETS):
        print(f"resolving {name} ...", flush=True)
        pinned = lock(index, pinned)


if __name__ == "__main__":
    main()
