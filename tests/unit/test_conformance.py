"""The documents that are made from the code are up to date, and what the hand-written ones say of it is true."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from service import __version__
from service.config import Settings, load
from service.conformance import guide, integration, statement, tables, web
from service.delivery import backoff
from service.delivery.destinations import KINDS
from service.http import openapi
from tests.statement import DOCS, rows, section

GENERATED = ("conformance.md", "ihe.md", "configuration.md", "pacs.md")


@pytest.fixture(scope="module")
def fresh() -> dict[str, str]:
    return guide.documents(DOCS)


@pytest.mark.parametrize("name", GENERATED)
def test_documents_are_up_to_date(fresh: dict[str, str], name: str) -> None:
    """If this fails: `make conformance`."""
    assert fresh[name] == (DOCS / name).read_text(encoding="utf-8")


def test_writing_changes_the_tables_and_nothing_else(tmp_path: Path) -> None:
    before = {name: (DOCS / name).read_text(encoding="utf-8") for name in GENERATED}
    for name, text in before.items():
        (tmp_path / name).write_text(text.replace("| `port` | dicom |", "| `port` | nobody |"), encoding="utf-8")
    guide.write(tmp_path)
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in GENERATED} == before


def test_statements_hold_no_paths_or_secrets_of_a_running_service(tmp_path: Path) -> None:
    secret = "a-secret-of-some-length"
    settings = replace(
        Settings(),
        tokens=(secret,),
        dicom_tls_key=str(tmp_path / "key.pem"),
        data_dir=tmp_path,
        dicom_peers=("PACS@192.0.2.7",),
    )
    text = statement.text(settings, {}, running=True)
    assert secret not in text and str(tmp_path) not in text and "192.0.2.7" not in text
    told = {row["setting"]: row["here"] for row in _table(text, "| setting | default | here |")}
    assert told["tokens"] == told["dicom_tls_key"] == "set" and told["dicom_tls_cert"] == "none"


def _table(text: str, start: str) -> list[dict[str, str]]:
    lines = text[text.index(start) :].split("\n\n")[0].splitlines()
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_settings_that_the_statement_names_exist() -> None:
    known = {entry.name for entry in fields(Settings)}
    assert set(statement.CONFIGURABLE) <= known
    keys = {entry.name for kind in KINDS.values() for entry in fields(kind)}
    text = (DOCS / "conformance.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", text))
    assert named <= known | keys | {"no_region", "sisc_lung", "clear_dr", "operating_point"}, named


def test_a_cell_cannot_break_its_table() -> None:
    assert tables.table(("a", "b"), [("x|y", "line\nend")]) == "| a | b |\n| --- | --- |\n| x\\|y | line end |"
    assert tables.size(1 << 20) == "1 MiB" and tables.size(1000) == "1000 bytes"
    assert tables.element("00100010") == "PatientName (0010,0010)"


def test_every_dicomweb_route_is_in_the_statement_once() -> None:
    offered = {
        (method.upper(), path)
        for path, operations in openapi.document()["paths"].items()
        if path.startswith("/dicomweb/")
        for method in operations
    }
    stated = [
        transaction[:2] for service in ("stow", "qido", "wado", "ups") for transaction in web.transactions(service)
    ]
    assert sorted(stated) == sorted(offered)


def test_ihe_claims_only_what_is_offered() -> None:
    told = {row["transaction"]: row["offered"] for row in rows("AI Workflow for Imaging", "transaction", "ihe.md")}
    paths = {re.sub(r"\{[a-z]+\}", "{}", path): set(found) for path, found in openapi.document()["paths"].items()}
    for row in rows("AI Workflow for Imaging", "transaction", "ihe.md"):
        method, path = row["resource"].split(" ")
        assert (method.lower() in paths.get(path, ())) == (told[row["transaction"]] == "yes")
    assert not integration.offered("POST", "/dicomweb/workitems/{}/nothing")
    assert "has been tested at a Connectathon" in section(
        "IHE Integration Statement: Pellucid " + __version__, "ihe.md"
    )


# -- docs/pacs.md -------------------------------------------------------------------------------------------------------


def pacs() -> str:
    return (DOCS / "pacs.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Indented code blocks."""
    return [
        re.sub(r"^ {4}", "", block, flags=re.MULTILINE)
        for block in re.findall(r"(?:^ {4}.*\n(?:^\n(?=^ {4}))?)+", text, flags=re.MULTILINE)
    ]


def test_the_shortest_way_is_a_settings_file_that_loads(tmp_path: Path) -> None:
    example = next(block for block in blocks(section("The shortest way", "pacs.md")) if "ae_title" in block)
    (tmp_path / "pellucid.toml").write_text(example)
    settings = load(environ={}, config=tmp_path / "pellucid.toml").settings
    assert settings.dicom_peers == ("ORTHANC@10.0.0.5",)
    assert settings.destinations[0].objects == ("SR", "SEG", "SC")


def test_the_stow_example_is_a_destination(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("something")
    example = next(block for block in blocks(section("Orthanc", "pacs.md")) if 'kind = "stow"' in block)
    table = tomllib.loads(example.replace("/etc/pellucid/orthanc-password", str(tmp_path / "password")))[
        "destinations"
    ][0]
    found = KINDS["stow"](
        **{"password": "something", **{k: v for k, v in table.items() if k not in ("kind", "password_file")}}
    )
    assert not list(found.problems())


def test_metrics_settings_and_addresses_of_the_guide_exist() -> None:
    root = Path(guide.__file__).resolve().parents[1]
    source = (root / "http" / "metrics.py").read_text(encoding="utf-8")
    for name in set(re.findall(r"pellucid_[a-z_]+", pacs())):
        assert f'"{name.removesuffix("_total")}"' in source, name
    paths = openapi.document()["paths"]
    for path in set(re.findall(r"/api/v1/[a-z/]+[a-z]", pacs())):
        assert any(known.startswith(path) for known in paths), path
    known = {entry.name for entry in fields(Settings)} | {
        entry.name for kind in KINDS.values() for entry in fields(kind)
    }
    for name in set(re.findall(r"`([a-z]+_[a-z_]+)`", pacs())):
        others = (
            "last_error",
            "password_file",
            "token_file",
            "secret_file",
            "no_region",
            "out_of_scope",
            "superseded_by",
        )
        assert name in known or name in others or name.startswith("pellucid_"), name


def test_the_guide_says_how_long_the_default_retries_last() -> None:
    given = Settings()
    waits = [
        backoff.wait_s(attempt, given.delivery_backoff_s, given.delivery_wait_s, "x")
        for attempt in range(1, given.delivery_attempts)
    ]
    assert 1.75 < sum(waits) / 3600 < 2.5
    assert "about two hours" in pacs()


def test_series_and_kinds_of_the_guide_are_those_of_the_objects() -> None:
    from service.results.common import SERIES

    told = {row["kind"]: int(row["series"]) for row in rows("What comes back", "kind", "pacs.md")}
    assert told == {kind: number for kind, (number, _) in SERIES.items()}


def test_defaults_that_the_guide_names_are_the_defaults() -> None:
    given, text = Settings(), pacs()
    assert f"`series_stable_s` ({given.series_stable_s:g} s)" in text
    assert f"`series_wait_s` ({given.series_wait_s:g} s)" in text
    assert given.free_bytes == 1 << 30 and "`free_bytes` (1 GiB)" in text
