"""In the PACS: a real Orthanc sends studies by every door and gets the results back; DCMTK's tools look on."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests import orthanc as peer
from tests.waiting import until

if TYPE_CHECKING:
    from tests.integration.conftest import Server

CT = "1.2.840.10008.5.1.4.1.1.2"
OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
RESULTS = {"SR", "SEG", "OT", "KO"}
LESION_MM = (-50.9, -147.6, 60.5)
"""The adenocarcinoma of LungFCP-01-0001, in the right apex."""


@pytest.fixture(scope="session")
def tools() -> None:
    for name in ("storescu", "echoscu", "findscu", "dsrdump"):
        if shutil.which(f"/usr/bin/{name}") is None:
            pytest.skip(f"NO {name}: apt-get install dcmtk; THIS TEST DID NOT RUN")


@pytest.fixture(scope="session")
def slices(ct_zip: bytes) -> list[pydicom.Dataset]:
    with zipfile.ZipFile(io.BytesIO(ct_zip)) as archive:
        return [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist())]


def study(slices: list[pydicom.Dataset], patient: str, middle: int = 24) -> tuple[str, list[bytes]]:
    """A study of its own with some slices round the lesion; its UID and files."""
    z = np.array([float(ds.ImagePositionPatient[2]) for ds in slices])
    near = np.argsort(np.abs(z - LESION_MM[2]), kind="stable")[:middle]
    uid, series = generate_uid(entropy_srcs=[patient, "study"]), generate_uid(entropy_srcs=[patient, "series"])
    files = []
    for index in sorted(near):
        ds = pydicom.Dataset(slices[index])
        ds.file_meta = FileMetaDataset(slices[index].file_meta)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = uid, series, patient
        ds.PatientName, ds.AccessionNumber = f"Check^{patient}", f"A-{patient}"
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[patient, str(index)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        if "InstanceNumber" in ds:
            ds.InstanceNumber = int(index) + 1
        stream = io.BytesIO()
        ds.save_as(stream, enforce_file_format=True)
        files.append(stream.getvalue())
    return uid, files


def photograph(eye: bytes, patient: str) -> tuple[str, bytes]:
    """An ophthalmic photograph; its study UID and file."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = OPHTHALMIC
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[patient, "op"])
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[patient, "op study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, "op series"])
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = patient, f"Check^{patient}", "19600101", "O"
    ds.Modality, ds.ImageLaterality, ds.StudyDate, ds.StudyTime = "OP", "L", "20260101", "120000"
    ds.ContentDate, ds.ContentTime, ds.StudyID, ds.AccessionNumber = "20260101", "120000", "1", "A1"
    ds.SeriesNumber = ds.InstanceNumber = 1
    ds.ReferringPhysicianName, ds.Manufacturer = "", "Check"
    picture = Image.open(io.BytesIO(eye)).convert("RGB").resize((1072, 712))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "COLOR"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns, ds.NumberOfFrames = 712, 1072, 1
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = picture.tobytes()
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return str(ds.StudyInstanceUID), stream.getvalue()


def stow(server: Server, files: list[bytes]) -> int:
    body = b"".join(b"--B\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n" for data in files) + b"--B--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=B'
    return server.call("POST", "/dicomweb/studies", body, {"Content-Type": kind, "Accept": "application/dicom+json"})[0]


def storescu(port: int, files: list[bytes], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(files):
        (folder / f"{number:04d}.dcm").write_bytes(data)
    done = subprocess.run(
        ["/usr/bin/storescu", "-xt", "-aec", "PELLUCID", "127.0.0.1", str(port), *map(str, sorted(folder.iterdir()))],
        capture_output=True, text=True, env={"TCP_NODELAY": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr[-2000:]


def settled(server: Server, identity: str, state: tuple[str, ...] = ("sent", "committed")) -> Any:
    """The analysis when all its deliveries have reached one of the states."""

    def look() -> Any:
        body = server.call("GET", f"/api/v1/analyses/{identity}")[1]
        return body if body["delivery"] and all(one["state"] in state for one in body["delivery"]) else None

    return until(look, 240, f"deliveries of {identity}")


class Pacs:
    """A server and an Orthanc that know each other."""

    def __init__(self, server: Server, orthanc: peer.Orthanc) -> None:
        self.server, self.orthanc = server, orthanc

    def modalities(self, study_uid: str) -> set[str]:
        found = self.orthanc.get(f"/dicom-web/studies/{study_uid}/series")
        return {series["00080060"]["Value"][0] for series in found}

    def objects(self, study_uid: str) -> list[dict[str, Any]]:
        return [o for a in self.server.of_study(study_uid) for o in a["objects"]]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, tools: None) -> Iterator[Pacs]:
    """Results go to Orthanc by C-STORE (with storage commitment) and by STOW-RS; Orthanc may send by both, too."""
    from tests.integration.conftest import Server

    folder = tmp_path_factory.mktemp("pacs")
    server = Server(folder)
    dicom_port, http_port = peer.free_port(), peer.free_port()
    modality = {"AET": "PELLUCID", "Host": "127.0.0.1", "Port": dicom_port, "AllowStorageCommitment": True}
    web = {"Servers": {"pellucid": [f"http://127.0.0.1:{http_port}/dicomweb/", "", ""]}}
    with peer.running(
        folder / "orthanc", {"pellucid": modality}, {"DicomWeb": web, "DicomAlwaysAllowFind": True}
    ) as orthanc:
        destinations = [
            {
                "kind": "dicom", "name": "pacs", "host": "127.0.0.1", "port": orthanc.dicom_port, "ae_title": "ORTHANC",
                "objects": ["SR", "SEG", "SC", "KOS"], "commitment": True,
            },
            {"kind": "stow", "name": "web", "url": orthanc.dicomweb, "objects": ["SR", "SEG"]},
        ]  # fmt: skip
        server.start(
            port=str(http_port),
            dicom_port=str(dicom_port),
            destinations=json.dumps(destinations),
            series_stable_s="1",
            delivery_backoff_s="0.5",
        )
        yield Pacs(server, orthanc)
        server.stop()


def test_the_dicom_contract_holds(server: Server, shared: Path, tools: None) -> None:
    done = subprocess.run(
        [
            sys.executable, str(shared / "acceptance/check_dicom.py"), server.base, f"127.0.0.1:{server.dicom_port}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("ok"))
    assert done.returncode == 0, failed + done.stderr


def test_orthanc_sends_by_c_store_and_finds_everything_beside_the_images(
    pacs: Pacs, slices: list[pydicom.Dataset]
) -> None:
    uid, files = study(slices, "PACS-1", len(slices))
    for data in files:
        pacs.orthanc.post("/instances", data)
    (found,) = pacs.orthanc.post("/tools/lookup", uid.encode())
    pacs.orthanc.post("/modalities/pellucid/store", [found["ID"]])
    (analysis,) = pacs.server.of_study(uid)
    assert analysis["status"] == "completed", analysis
    body = settled(pacs.server, analysis["id"], ("committed", "sent"))
    assert pacs.modalities(uid) >= RESULTS
    # right patient and study, by C-FIND
    answer = subprocess.run(
        [
            "/usr/bin/findscu", "-v", "-S", "-aec", "ORTHANC", "127.0.0.1", str(pacs.orthanc.dicom_port),
            "-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={uid}", "-k", "Modality=SR", "-k", "SeriesInstanceUID",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = next(one for one in body["objects"] if one["kind"] == "SR")
    assert report["series_uid"] in answer.stdout + answer.stderr
    stored = pydicom.dcmread(io.BytesIO(pacs.orthanc.file(report["sop_instance_uid"])))
    assert (stored.PatientID, stored.StudyInstanceUID, stored.AccessionNumber) == ("PACS-1", uid, "A-PACS-1")
    # and what is there is what was made
    ours = pacs.server.call("GET", report["href"])[1]
    assert pydicom.dcmread(io.BytesIO(ours)) == stored
    # the PACS has promised to keep it
    until(
        lambda: all(
            one["state"] == "committed"
            for one in pacs.server.call("GET", f"/api/v1/analyses/{analysis['id']}")[1]["delivery"]
            if one["destination"] == "pacs"
        ),
        120,
        "storage commitment",
    )


def test_orthanc_sends_by_dicomweb(pacs: Pacs, eye: bytes) -> None:
    uid, data = photograph(eye, "PACS-2")
    pacs.orthanc.post("/instances", data)
    (found,) = pacs.orthanc.post("/tools/lookup", uid.encode())
    pacs.orthanc.post("/dicom-web/servers/pellucid/stow", {"Resources": [found["ID"]]})
    (analysis,) = pacs.server.of_study(uid)
    assert (analysis["status"], analysis["outcome"]) == ("completed", "graded")
    settled(pacs.server, analysis["id"])
    assert pacs.modalities(uid) >= RESULTS


def test_results_that_come_back_are_not_analysed(pacs: Pacs, eye: bytes) -> None:
    """Many archives forward whatever they store."""
    uid, data = photograph(eye, "PACS-3")
    assert stow(pacs.server, [data]) == 200
    (analysis,) = pacs.server.of_study(uid)
    settled(pacs.server, analysis["id"])
    until(lambda: pacs.modalities(uid) >= RESULTS)
    (found,) = pacs.orthanc.post("/tools/lookup", uid.encode())
    pacs.orthanc.post("/modalities/pellucid/store", [found["ID"]])
    time.sleep(3)
    until(lambda: pacs.server.call("GET", "/api/v1/series")[1]["series"] == [], what="a series stays open")
    assert [one["id"] for one in pacs.server.of_study(uid)] == [analysis["id"]]


def test_every_door_gives_the_same_bytes(
    server: Server, pacs: Pacs, slices: list[pydicom.Dataset], tmp_path: Path
) -> None:
    """Two servers, three doors, one study."""
    uid, files = study(slices, "DOORS", 12)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, data in enumerate(reversed(files)):
            archive.writestr(f"{number}.dcm", data)
    status, over_http = server.post([("ct.zip", stream.getvalue())])
    assert status in (200, 202)
    over_http = server.ended(over_http["id"])
    storescu(pacs.server.dicom_port, files, tmp_path / "files")
    (over_dimse,) = pacs.server.of_study(uid)
    made = {o["kind"]: hashlib.sha256(server.call("GET", o["href"])[1]).hexdigest() for o in over_http["objects"]}
    again = {
        o["kind"]: hashlib.sha256(pacs.server.call("GET", o["href"])[1]).hexdigest() for o in over_dimse["objects"]
    }
    assert made == again and "SR" in made
    assert stow(pacs.server, files) == 200, "what came by C-STORE is the same instance by STOW-RS"
    assert stow(server, files) == 200
    newest = server.of_study(uid, 2)[0]
    assert newest["id"] != over_http["id"]
    third = {o["kind"]: hashlib.sha256(server.call("GET", o["href"])[1]).hexdigest() for o in newest["objects"]}
    assert third == made
    parts = ("outcome", "findings", "quality")
    without = [
        json.loads(json.dumps({p: a[p] for p in parts}).replace(a["id"], "")) for a in (over_http, over_dimse, newest)
    ]
    assert without[0] == without[1] == without[2]


def test_late_slices_lead_to_a_superseding_result(pacs: Pacs, slices: list[pydicom.Dataset], tmp_path: Path) -> None:
    uid, files = study(slices, "LATE", 12)
    storescu(pacs.server.dicom_port, files[:-3], tmp_path / "early")
    (first,) = pacs.server.of_study(uid)
    storescu(pacs.server.dicom_port, files[-3:], tmp_path / "late")
    second, old = pacs.server.of_study(uid, 2)
    assert (second["supersedes"], old["superseded_by"], old["id"]) == (first["id"], second["id"], first["id"])
    reports = [next(o for o in one["objects"] if o["kind"] == "SR") for one in (second, old)]
    newer = pydicom.dcmread(io.BytesIO(pacs.server.call("GET", reports[0]["href"])[1]))
    (named,) = [
        item.ReferencedSOPInstanceUID
        for entry in newer.PredecessorDocumentsSequence
        for series in entry.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert named == reports[1]["sop_instance_uid"]
    assert len(second["input"]["instances"]) == 12 and len(old["input"]["instances"]) == 9
    storescu(pacs.server.dicom_port, files, tmp_path / "again")
    time.sleep(3)
    assert len(pacs.server.of_study(uid)) == 2, "the same study again changes nothing"


def test_a_radiologists_report_says_where_to_look(pacs: Pacs, slices: list[pydicom.Dataset], tmp_path: Path) -> None:
    """An RTSTRUCT drawn on the series: its nodule is answered for under the same place, and candidates are not searched."""
    uid, files = study(slices, "MARKED", 24)
    images = [pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True) for data in files]
    near = min(images, key=lambda ds: abs(float(ds.ImagePositionPatient[2]) - LESION_MM[2]))
    x, y, _ = LESION_MM
    z = float(near.ImagePositionPatient[2])
    drawn = Dataset()
    drawn.file_meta = FileMetaDataset()
    drawn.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    drawn.SOPClassUID = drawn.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    drawn.SOPInstanceUID = drawn.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    drawn.StudyInstanceUID, drawn.SeriesInstanceUID, drawn.Modality = uid, generate_uid(), "RTSTRUCT"
    drawn.PatientID, drawn.PatientName = "MARKED", "Check^MARKED"
    drawn.StructureSetLabel = "nodules"
    series = Dataset()
    series.SeriesInstanceUID = near.SeriesInstanceUID
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CT, near.SOPInstanceUID
    series.ContourImageSequence = [image]
    study_item = Dataset()
    study_item.ReferencedSOPClassUID, study_item.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", uid
    study_item.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = near.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study_item]
    drawn.ReferencedFrameOfReferenceSequence = [frame]
    roi = Dataset()
    roi.ROINumber, roi.ReferencedFrameOfReferenceUID, roi.ROIName = 1, near.FrameOfReferenceUID, "Nodule 1"
    drawn.StructureSetROISequence = [roi]
    contour = Dataset()
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    contour.ContourData = [x - 5, y - 5, z, x + 5, y - 5, z, x + 5, y + 5, z, x - 5, y + 5, z]
    contour.ContourImageSequence = [image]
    lines = Dataset()
    lines.ReferencedROINumber, lines.ContourSequence = 1, [contour]
    drawn.ROIContourSequence = [lines]
    stream = io.BytesIO()
    drawn.save_as(stream, enforce_file_format=True)
    assert stow(pacs.server, [*files, stream.getvalue()]) == 200
    (analysis,) = pacs.server.of_study(uid)
    (finding,) = analysis["findings"]
    assert finding["location"]["origin"] == "reference"
    assert np.allclose(finding["location"]["center_mm"], [x, y, z], atol=0.6)
    assert analysis["outcome"] == "positive"


def test_an_enhanced_ct_is_answered_like_its_slices(server: Server, slices: list[pydicom.Dataset]) -> None:
    """The same 24 slices as single instances and as one legacy converted enhanced object (made by highdicom)."""
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    _, files = study(slices, "ENHANCED", 24)
    single = [pydicom.dcmread(io.BytesIO(data)) for data in files]
    for ds in single:
        ds.decompress()
        ds.Manufacturer, ds.StudyID, ds.PatientBirthDate = "Check", "1", ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = LegacyConvertedEnhancedCTImage(single, generate_uid(), 5, generate_uid(), 1)
    stream = io.BytesIO()
    whole.save_as(stream, enforce_file_format=True)
    request = {"regions": [{"id": "n", "center_mm": list(LESION_MM)}]}
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as archive:
        for number, data in enumerate(files):
            archive.writestr(f"{number}.dcm", data)
    answers = []
    for name, data in (("slices.zip", bundle.getvalue()), ("enhanced.dcm", stream.getvalue())):
        _, body = server.post([(name, data)], request)
        body = server.ended(body["id"])
        assert {"SR", "SEG", "SC", "KOS"} == {one["kind"] for one in body["objects"]}
        answers.append(body["findings"][0])
    one, two = answers
    assert one["probabilities"] == pytest.approx(two["probabilities"], abs=1e-6)
    assert one["location"]["center_mm"] == pytest.approx(two["location"]["center_mm"])
    assert "#" in two["location"]["sop_instance_uid"] and "#" not in one["location"]["sop_instance_uid"]


def test_ohif_s_way_of_reading(server: Server, eye: bytes) -> None:
    """dicomweb-client walks from the study to the frames, as viewers do."""
    from dicomweb_client.api import DICOMwebClient

    uid, data = photograph(eye, "WEB-1")
    client = DICOMwebClient(f"{server.base}/dicomweb")
    client.store_instances([pydicom.dcmread(io.BytesIO(data))])
    server.of_study(uid)
    behind_tls = server.call("GET", "/dicomweb/studies?PatientID=WEB-1", headers={"X-Forwarded-Proto": "https"})[1]
    assert behind_tls[0]["00081190"]["Value"][0].startswith("https://"), "a browser would not load the other kind"
    (found,) = client.search_for_studies(search_filters={"PatientID": "WEB-1"})
    assert found["0020000D"]["Value"] == [uid]
    series = client.search_for_series(uid)
    assert {one["00080060"]["Value"][0] for one in series} >= {"OP", *RESULTS}
    for one in series:
        for instance in client.retrieve_series_metadata(uid, one["0020000E"]["Value"][0]):
            place = (uid, one["0020000E"]["Value"][0], instance["00080018"]["Value"][0])
            whole = client.retrieve_instance(*place)
            assert whole.SOPInstanceUID == place[2]
            if "Rows" in whole:
                (frame,) = client.retrieve_instance_frames(*place, [1], media_types=("application/octet-stream",))
                size = whole.Rows * whole.Columns * whole.SamplesPerPixel * whole.BitsAllocated
                assert len(frame) in (size // 8, -(-size // 8) + (size // 8) % 2)
