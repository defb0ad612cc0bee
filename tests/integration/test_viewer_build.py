"""The viewer's own checks (style, types, unit tests), and that building its sources gives the files that are committed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

VIEWER = Path(__file__).resolve().parents[2] / "service" / "viewer"
OLDEST = (20, 19)
"""Vite 8 needs it."""


def node_version() -> tuple[int, ...]:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return (0,)
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", said)[:2])


@pytest.mark.slow
def test_the_sources_pass_their_checks_and_give_the_committed_page(tmp_path: Path) -> None:
    if node_version() < OLDEST:
        warnings.warn("Node 20.19 or newer is missing: THIS TEST DID NOT RUN", stacklevel=1)
        pytest.skip("Node 20.19 or newer is missing: the viewer was not checked and not built again")
    copy = tmp_path / "viewer"
    shutil.copytree(VIEWER, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    environment = {**os.environ, "CI": "true", "NO_COLOR": "1"}
    for command in (["npm", "ci"], ["npm", "run", "check"]):
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    built, kept = (
        {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (copy / "dist", VIEWER / "dist")
    )
    assert sorted(built) == sorted(kept)
    assert [name for name in built if built[name] != kept[name]] == []
