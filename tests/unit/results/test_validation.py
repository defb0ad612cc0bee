"""The verdict on an object: counts as the tool prints them, no values of the object, and an answer without the tool too."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR

from service.records import ResultObject
from service.results import sc, validation
from service.results.report import Report

SECRET = "O'Hara> - x"


@pytest.fixture
def broken(make_report: Callable[..., Report]) -> bytes:
    """A secondary capture whose header was broken afterwards, with a name that could be mistaken for the tool's syntax."""
    made = sc.build(make_report("op", "ungradable"))
    assert made is not None
    ds = pydicom.dcmread(io.BytesIO(made.data))
    values = {
        "PatientName": f"{SECRET}^A^B^C^D^E",
        "PatientSex": "HOUDINI",
        "BodyPartExamined": "houdini eye",
        "PatientBirthDate": "1874-HOUDINI",
    }
    for keyword, value in values.items():
        ds.add(pydicom.DataElement(keyword, dictionary_VR(keyword), value, validation_mode=config.IGNORE))
    del ds.ConversionType
    stream = io.BytesIO()
    ds.save_as(stream)
    return stream.getvalue()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Puts a shell script in the validator's place."""

    def install(script: str) -> None:
        path = tmp_path / "bin" / validation.VALIDATOR
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return install


def test_a_good_object(make_report: Callable[..., Report], errors: Callable[[ResultObject], list[str]]) -> None:
    made = sc.build(make_report("op", "graded"))
    assert made is not None and errors(made) == []
    verdict = validation.validate(made.data)
    assert (verdict["validator"], verdict["errors"], verdict["messages"]) == ("dciodvfy", 0, [])


@pytest.mark.usefixtures("errors")  # says so where the tool is missing
def test_counts_are_the_tools_and_messages_hold_no_values(broken: bytes, tmp_path: Path) -> None:
    tool = shutil.which("dciodvfy")
    assert tool is not None
    path = tmp_path / "broken.dcm"
    path.write_bytes(broken)
    done = subprocess.run([tool, "-new", str(path)], capture_output=True, check=False)
    printed = (done.stdout + done.stderr).decode().splitlines()
    verdict = validation.validate(broken)
    assert verdict["errors"] == sum(line.startswith("Error") for line in printed) >= 4
    assert verdict["warnings"] == sum(line.startswith("Warning") for line in printed)
    text = "\n".join(verdict["messages"])
    assert any("Hara" in line for line in printed)  # the tool itself does quote it
    for secret in ("Hara", "HOUDINI", "houdini", "1874"):
        assert secret not in text
    assert "</PatientName(0010,0010)[1]> - Value invalid for this VR [PN] = ..." in text
    assert "</ConversionType(0008,0064)> - Missing attribute for Type 1 Required - Module=<SCEquipment>" in text
    assert len(verdict["messages"]) == len(set(verdict["messages"]))


def test_not_a_dicom_object() -> None:
    assert validation.validate(b"no DICOM at all")["errors"] > 0


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("Error - </A(0010,0010)[1]> - Value = <a> b> - Too long", "Error - </A(0010,0010)[1]> - Value = ... - Too long"),
        ("Error - </A(0010,0010)[1]> - Value = <a 'b' \"c", "Error - </A(0010,0010)[1]> - Value = ..."),
        ("Error - Illegal character = 'D' - only L", "Error - Illegal character = ... - only L"),
        ("Error - </A(0010,0010)> - Bad = <2> Module=<Patient>", "Error - </A(0010,0010)> - Bad = ... Module=<Patient>"),
        ("Error - </A(0010,0010)> - Character invalid = 'd' (0x64)", "Error - </A(0010,0010)> - Character invalid = ..."),
        ("something <else>", "something ..."),
    ],
)  # fmt: skip
def test_values_are_cut_out(line: str, kept: str) -> None:
    assert validation.without_values(line) == kept


def test_without_the_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = validation.validate(b"")
    assert (verdict["validator"], verdict["errors"], verdict["warnings"]) == (None, None, None)
    assert "not installed" in verdict["messages"][0]


def test_a_tool_that_hangs_is_given_up(fake: Callable[[str], None]) -> None:
    fake("exec sleep 30")
    verdict = validation.validate(b"", seconds=0.3)
    assert verdict["validator"] is None and verdict["errors"] is None and "0.3 s" in verdict["messages"][0]


@pytest.mark.parametrize("script", ["kill -SEGV $$", "exit 3"])
def test_a_tool_that_breaks_is_no_good_verdict(fake: Callable[[str], None], script: str) -> None:
    fake(script)
    assert validation.validate(b"")["errors"] == 1


def test_the_object_lies_in_a_private_folder_and_leaves_nothing(fake: Callable[[str], None], tmp_path: Path) -> None:
    note = tmp_path / "note"
    fake(f'pwd > {note}; stat -c %a . >> {note}; echo "$@" >> {note}; wc -c < object.dcm >> {note}')
    validation.validate(b"12345")
    folder, mode, arguments, size = note.read_text().split("\n")[:4]
    assert int(mode, 8) == stat.S_IRWXU and arguments == "-new object.dcm" and int(size) == 5
    assert not Path(folder).exists()


def test_messages_are_few(fake: Callable[[str], None]) -> None:
    fake("for n in $(seq 500); do echo Error - number $n; done")
    verdict = validation.validate(b"")
    assert verdict["errors"] == 500 and len(verdict["messages"]) == validation.MOST_MESSAGES


def test_the_sample_is_stable_and_as_large_as_asked() -> None:
    names = [f"2.25.{n}" for n in range(4000)]
    tenth = [name for name in names if validation.chosen(name, 0.1)]
    assert 320 < len(tenth) < 480  # 400 expected, standard deviation 19
    assert tenth == [name for name in names if validation.chosen(name, 0.1)]
    assert set(tenth) <= {name for name in names if validation.chosen(name, 0.3)}
    assert not any(validation.chosen(name, 0) for name in names) and all(validation.chosen(name, 1) for name in names)
    assert not validation.chosen("2.25.1", 0.287) and validation.chosen("2.25.1", 0.288)  # its SHA-256 begins 49b1b0
