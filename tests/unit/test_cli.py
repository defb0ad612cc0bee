"""The command line: usage, exit codes, and the pipeline without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service import __version__
from service.cli import main


@pytest.fixture(autouse=True)
def _tiny(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_MODELS_DIR", str(tiny_models))
    monkeypatch.setenv("PELLUCID_THREADS", "1")


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    array = np.full((100, 100), 40, np.uint8)
    array[40:60, 40:60] = 200
    Image.fromarray(array).save(tmp_path / "crop.png")
    return tmp_path / "crop.png"


def test_help_is_there_without_anything_heavy() -> None:
    code = (
        "import sys; from service.cli import main; assert main(['--help']) == 0;"
        "heavy = {'numpy', 'flask', 'sqlalchemy', 'onnxruntime', 'PIL', 'pydicom'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("serve", "analyze", "models", "demo", "config"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["analyze"],
        ["models"],
        ["models", "card"],
        ["serve", "--colour", "red"],
        ["analyze", "nowhere.png"],
        ["serve", "--port", "x"],
        ["serve", "--host", "0.0.0.0"],
        ["config", "--config", "gone.toml"],
    ],
)
def test_usage_errors_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err


def test_config_shows_values_and_sources(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_TOKENS", "a-very-secret-token")
    assert main(["config", "--port", "1234"]) == 0
    out = capsys.readouterr().out
    assert "port = 1234  # flag" in out and "threads = 1  # environment PELLUCID_THREADS" in out
    assert "secret" not in out.replace("secrets", "")


def test_models_are_listed_verified_and_described(capsys: pytest.CaptureFixture[str], tiny_models: Path) -> None:
    assert main(["models", "list"]) == 0
    assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["clear_dr", "0.0.1"],
        ["sisc_lung", "0.0.1"],
    ]
    assert main(["models", "verify"]) == 0
    assert main(["models", "card", "clear_dr"]) == 0
    assert capsys.readouterr().out.endswith((tiny_models / "clear_dr/CARD.md").read_text())
    assert main(["models", "card", "nothing"]) == 1
    assert "clear_dr" in capsys.readouterr().err


def test_a_damaged_bundle_fails_verification(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(tiny_models, tmp_path / "models")
    (tmp_path / "models/clear_dr/model.onnx").write_bytes(b"")
    monkeypatch.setenv("PELLUCID_MODELS_DIR", str(tmp_path / "models"))
    assert main(["models", "verify"]) == 1
    captured = capsys.readouterr()
    assert "sisc_lung: good" in captured.out and "clear_dr" in captured.err


def test_analyze_writes_the_analysis_and_every_map(
    crop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["analyze", str(crop), "--model", "sisc_lung", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "analysis.json").read_text())
    maps = printed["findings"][0]["evidence"]["maps"]
    assert set(maps) == {"clear", "two-sided", "class-benign", "class-malignant"}
    for place in maps.values():
        with Image.open(out / place) as picture:
            assert picture.format == "PNG"
        with np.load((out / place).with_suffix(".npz"), allow_pickle=False) as arrays:
            assert "probabilities" in arrays


def test_analyze_says_the_result_in_words(crop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(crop), "--model", "sisc_lung"]) == 0
    out = capsys.readouterr().out
    assert "sisc_lung 0.0.1" in out and "at balanced (threshold 0.500)" in out and "median of the training set" in out


def test_what_cannot_be_answered_is_1_with_one_line(
    crop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(crop)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("pellucid: ") and "model's name" in error
    (tmp_path / "text.txt").write_text("hello")
    assert main(["analyze", str(tmp_path / "text.txt")]) == 1
    assert main(["analyze", str(crop), "--model", "sisc_lung", "--center-mm", "1,2"]) == 1
    assert main(["analyze", str(crop), "--model", "sisc_lung", "--center-mm", "a,b,c"]) == 2


def test_demo_writes_phantoms_that_can_be_analysed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines() if "analyze" in line]
    assert len(said) == 2
    for words in said:
        assert main([*words[1:-2], "--json"]) == 0
        body = json.loads(capsys.readouterr().out)
        assert body["findings"], body


def test_destinations_are_listed_and_tried(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    ae = AE("PACS")
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda event: 0)])
    assert server is not None
    good = {"kind": "dicom", "name": "good", "host": "127.0.0.1", "port": server.server_address[1], "ae_title": "PACS"}
    gone = {**good, "name": "gone", "port": 9}
    hook = {"kind": "callback", "name": "hook", "url": "https://x.example/", "secret": "correct-horse-battery"}
    try:
        monkeypatch.setenv("PELLUCID_DESTINATIONS", json.dumps([good, hook]))
        assert main(["destinations", "--echo"]) == 0
        out = capsys.readouterr().out
        assert "answers" in out.splitlines()[0] and "hook" in out and "correct-horse" not in out
        monkeypatch.setenv("PELLUCID_DESTINATIONS", json.dumps([good, gone]))
        assert main(["destinations", "--echo"]) == 1
        assert "answers" not in capsys.readouterr().out.splitlines()[1]
    finally:
        server.shutdown()
