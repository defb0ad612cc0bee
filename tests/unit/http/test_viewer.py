"""The built page of the viewer as it is served, and that it was built from the sources that lie beside it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.http import viewer

SOURCES = viewer.FOLDER.parent
LARGEST_BYTES = 5_000_000


def test_the_front_door_leads_to_the_viewer(client: FlaskClient) -> None:
    response = client.get("/")
    assert (response.status_code, response.headers["Location"]) == (302, "/viewer/")
    page = client.get("/viewer/")
    assert "<html" in page.text and page.content_type.startswith("text/html")


def test_everything_that_the_page_names_is_served_with_its_type_and_kept_for_ever(client: FlaskClient) -> None:
    named = re.findall(r'(?:src|href)="\./([^"]+)"', client.get("/viewer/").text)
    assert {Path(name).suffix for name in named} == {".js", ".css", ".svg"}
    for name in named:
        response = client.get(f"/viewer/{name}")
        assert response.status_code == 200, name
        assert ("immutable" in response.headers["Cache-Control"]) == name.startswith("assets/")
    assert client.get("/viewer/").headers["Cache-Control"] == "no-cache"


def test_scripts_from_elsewhere_inline_and_from_text_are_forbidden(client: FlaskClient) -> None:
    policy = client.get("/viewer/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    text = (viewer.FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|https?://", text)


def test_only_the_pages_own_kinds_of_file_are_served(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("index.html", "notes.py", ".secret", "app.js"):
        (tmp_path / name).write_text("<html>")
    monkeypatch.setattr(viewer, "FOLDER", tmp_path)
    answers = {name: client.get(f"/viewer/{name}").status_code for name in ("", "app.js", "notes.py", ".secret")}
    assert answers == {"": 200, "app.js": 200, "notes.py": 404, ".secret": 404}


def test_the_built_page_is_that_of_the_sources() -> None:
    """The stamp that `vite.config.ts` writes. `make viewer` builds again."""
    inside = [file for folder in ("src", "public") for file in (SOURCES / folder).rglob("*") if file.is_file()]
    names = sorted(
        [file.relative_to(SOURCES).as_posix() for file in inside]
        + ["index.html", "package-lock.json", "vite.config.ts"]
    )
    whole = hashlib.sha256()
    for name in names:
        whole.update(f"{hashlib.sha256((SOURCES / name).read_bytes()).hexdigest()}  {name}\n".encode())
    stamp = json.loads((viewer.FOLDER / "build.json").read_text())
    assert stamp == {"sources": whole.hexdigest()}, "the viewer's sources changed: make viewer"


def test_the_built_page_stays_small_and_names_the_licences_of_what_is_in_it() -> None:
    assert sum(file.stat().st_size for file in viewer.FOLDER.rglob("*") if file.is_file()) < LARGEST_BYTES
    licences = (viewer.FOLDER / "licenses.md").read_text()
    for package in ("@cornerstonejs/core", "@cornerstonejs/tools", "preact", "@preact/signals", "@kitware/vtk.js"):
        assert f"## {package} - " in licences
    assert not re.search(r"\((A?L?GPL|SSPL|UNLICENSED)", licences)


def test_the_lock_names_no_place_to_load_from() -> None:
    lock = json.loads((SOURCES / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
