"""A reader's verdict reaches the PACS: a real Orthanc gets the new objects and the note that rejects the old ones."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest

from tests import orthanc as peer
from tests.integration.test_pacs import slices, storescu, study, tools
from tests.waiting import until

if TYPE_CHECKING:
    from tests.integration.conftest import Server

__all__ = ["slices", "tools"]  # fixtures
REPLACED = ("SR", "SEG", "SC", "KOS")


class Reading:
    """A server whose results go to an Orthanc, and one series in it that was answered there."""

    def __init__(self, server: Server, orthanc: peer.Orthanc, settings: dict[str, str]) -> None:
        self.server, self.orthanc, self._settings = server, orthanc, settings
        self.identity = ""

    def start(self) -> None:
        self.server.start(**self._settings)

    @property
    def body(self) -> Any:
        return self.server.call("GET", f"/api/v1/analyses/{self.identity}")[1]

    def made(self) -> dict[str, str]:
        return {one["kind"]: one["sop_instance_uid"] for one in self.body["objects"]}

    def judge(self, finding: str, verdict: str, **more: str) -> None:
        sent = json.dumps({"finding": finding, "verdict": verdict, **more}).encode()
        place = f"/api/v1/analyses/{self.identity}/assessment"
        assert self.server.call("POST", place, sent, {"Content-Type": "application/json"})[0] == 200

    def settled(self, revision: int) -> Any:
        """The analysis when this revision is there and nothing is on its way any more."""

        def look() -> Any:
            body = self.body
            states = {one["state"] for one in body["delivery"]}
            return body if body["revision"] == revision and states <= {"sent", "committed", "superseded"} else None

        return until(look, 240, lambda: (revision, self.body["delivery"], self.server.log.read_text()[-2000:]))

    def stored(self, uid: str) -> pydicom.Dataset:
        """What Orthanc has."""
        return pydicom.dcmread(io.BytesIO(self.orthanc.file(uid)))

    def has(self, uid: str) -> bool:
        return bool(self.orthanc.post("/tools/lookup", uid.encode()))


@pytest.fixture
def reading(own_server: Server, tmp_path: Path, tools: None, slices: list[pydicom.Dataset]) -> Iterator[Reading]:
    web = peer.free_port()
    with peer.running(tmp_path / "orthanc") as orthanc:
        destinations = [
            {
                "kind": "dicom", "name": "pacs", "host": "127.0.0.1", "port": orthanc.dicom_port, "ae_title": "ORTHANC",
                "objects": ["SR", "SEG", "SC", "KOS"],
            },
        ]  # fmt: skip
        settings = {"destinations": json.dumps(destinations), "series_stable_s": "1", "port": str(web)}
        made = Reading(own_server, orthanc, settings)
        made.start()
        uid, files = study(slices, "REVISED", 60)
        storescu(own_server.dicom_port, files, tmp_path / "files")
        (analysis,) = own_server.of_study(uid)
        made.identity = analysis["id"]
        made.settled(0)
        yield made


def references(ds: pydicom.Dataset, sequence: str) -> set[str]:
    return {
        str(one.ReferencedSOPInstanceUID)
        for entry in ds[sequence].value
        for series in entry.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


def segments(ds: pydicom.Dataset) -> set[str]:
    return {str(segment.TrackingUID) for segment in ds.SegmentSequence}


def test_rejected_and_taken_back(reading: Reading) -> None:
    findings = {one["id"]: one for one in reading.body["findings"]}
    assert "candidate-1" in findings and len(findings) > 1, findings.keys()
    first = reading.made()
    before = segments(reading.stored(first["SEG"]))
    tracking = findings["candidate-1"]["tracking_uid"]
    assert tracking in before

    reading.judge("candidate-1", "rejected", reason="a vessel", reader="Dr. Check")
    body = reading.settled(1)
    second = reading.made()
    assert set(second) == {*REPLACED, "RN"}
    report = reading.stored(second["SR"])
    assert references(report, "PredecessorDocumentsSequence") == {first["SR"]}
    assert (report.PatientID, report.VerificationFlag) == ("REVISED", "UNVERIFIED")
    assert "a vessel" in str(report) and "Dr. Check" in str(report)
    assert segments(reading.stored(second["SEG"])) == before - {tracking}
    note = reading.stored(second["RN"])
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert references(note, "CurrentRequestedProcedureEvidenceSequence") == {first[kind] for kind in REPLACED}
    assert note.StudyInstanceUID == report.StudyInstanceUID
    assert {one["state"] for one in body["delivery"] if one["object"] in first.values()} == {"superseded"}
    ours = reading.server.call("GET", next(one["href"] for one in body["objects"] if one["kind"] == "RN"))[1]
    assert pydicom.dcmread(io.BytesIO(ours)) == note
    assert all(reading.has(uid) for uid in first.values()), "nothing is deleted in the PACS by us"

    reading.judge("candidate-1", "accepted")
    reading.settled(2)
    third = reading.made()
    assert segments(reading.stored(third["SEG"])) == before
    assert references(reading.stored(third["SR"]), "PredecessorDocumentsSequence") == {second["SR"]}
    assert references(reading.stored(third["RN"]), "CurrentRequestedProcedureEvidenceSequence") == {
        second[kind] for kind in REPLACED
    }
    assert len(reading.server.call("GET", "/api/v1/analyses")[1]["analyses"]) == 1, "no result starts an analysis"


def test_killed_between_the_verdict_and_its_revision(reading: Reading) -> None:
    first = reading.made()
    reading.judge("candidate-1", "rejected")
    reading.server.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(reading.server.folder / "data" / "pellucid.sqlite")) as connection:
        assert connection.execute("SELECT revision FROM analyses").fetchall() == [(0,)]
    reading.start()
    reading.settled(1)
    second = reading.made()
    assert all(reading.has(uid) for uid in second.values())
    assert references(reading.stored(second["SR"]), "PredecessorDocumentsSequence") == {first["SR"]}
