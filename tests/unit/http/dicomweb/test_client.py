"""Someone else's client (dicomweb-client) against a real web server: store, search, retrieve; and every transfer syntax."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.uid import generate_uid
from requests.exceptions import HTTPError

from .conftest import make_instance

OCTETS = ("application/octet-stream",)


@pytest.fixture(scope="module")
def peer(address: str) -> DICOMwebClient:
    return DICOMwebClient(address)


@pytest.fixture(scope="module")
def study(peer: DICOMwebClient) -> list[pydicom.Dataset]:
    """A stored study: a series of five slices and one multi-frame object."""
    sent = [make_instance("2.25.70", "2.25.70.1", f"2.25.70.1.{n}", InstanceNumber=n) for n in range(1, 6)]
    sent.append(make_instance("2.25.70", "2.25.70.2", "2.25.70.2.1", frames=3, Modality="OT", ImageComments="c" * 3000))
    datasets = [pydicom.dcmread(io.BytesIO(data)) for data in sent]
    answer = peer.store_instances(datasets)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [
        d.SOPInstanceUID for d in datasets
    ]
    assert "FailedSOPSequence" not in answer
    return datasets


def test_failures_are_told(peer: DICOMwebClient, study: list[pydicom.Dataset]) -> None:
    changed = pydicom.Dataset(study[0])
    changed.file_meta, changed.PatientName = study[0].file_meta, "Other^Name"
    new = pydicom.dcmread(io.BytesIO(make_instance("2.25.71", sop="2.25.71.1")))
    answer = peer.store_instances([changed, new])
    assert answer.FailedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.70.1.1"
    assert answer.FailedSOPSequence[0].FailureReason == 0x0111
    assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.71.1"
    with pytest.raises(HTTPError, match="409"):
        peer.store_instances([new], study_instance_uid="2.25.70")


def test_it_finds_studies_series_and_instances(peer: DICOMwebClient, study: list[pydicom.Dataset]) -> None:
    (found,) = peer.search_for_studies(search_filters={"StudyInstanceUID": "2.25.70", "PatientName": "doe*"})
    assert pydicom.Dataset.from_json(found).NumberOfStudyRelatedInstances == 6
    series = peer.search_for_series("2.25.70", search_filters={"Modality": "CT"}, fields=["BodyPartExamined"])
    assert [pydicom.Dataset.from_json(s).SeriesInstanceUID for s in series] == ["2.25.70.1"]
    assert len(peer.search_for_series(search_filters={"00100020": "P?1"})) >= 2
    pages = [peer.search_for_instances("2.25.70", "2.25.70.1", limit=2, offset=n) for n in (0, 2, 4)]
    numbers = [pydicom.Dataset.from_json(i).InstanceNumber for page in pages for i in page]
    assert numbers == [1, 2, 3, 4, 5]
    assert len(peer.search_for_instances("2.25.70", limit=2, get_remaining=True)) == 6
    assert peer.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert peer.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "jane"})


def test_it_retrieves_studies_series_and_instances(peer: DICOMwebClient, study: list[pydicom.Dataset]) -> None:
    assert sorted(d.SOPInstanceUID for d in peer.retrieve_study("2.25.70")) == sorted(d.SOPInstanceUID for d in study)
    series = list(peer.iter_series("2.25.70", "2.25.70.1"))
    assert [d.InstanceNumber for d in series] == [1, 2, 3, 4, 5]
    one = peer.retrieve_instance("2.25.70", "2.25.70.1", "2.25.70.1.3", media_types=(("application/dicom", "*"),))
    assert one == study[2] and one.PixelData == study[2].PixelData


def test_it_retrieves_metadata_and_bulk_data(peer: DICOMwebClient, study: list[pydicom.Dataset]) -> None:
    assert len(peer.retrieve_study_metadata("2.25.70")) == 6
    assert len(peer.retrieve_series_metadata("2.25.70", "2.25.70.1")) == 5
    found = peer.retrieve_instance_metadata("2.25.70", "2.25.70.2", "2.25.70.2.1")
    assert pydicom.Dataset.from_json(found, lambda *_: b"").NumberOfFrames == 3
    (comment,) = peer.retrieve_bulkdata(found["00204000"]["BulkDataURI"])
    assert comment.strip() == b"c" * 3000
    (pixels,) = peer.retrieve_bulkdata(found["7FE00010"]["BulkDataURI"], media_types=OCTETS)
    assert pixels == study[5].PixelData


def test_it_retrieves_frames_and_pictures(peer: DICOMwebClient, study: list[pydicom.Dataset]) -> None:
    uids = ("2.25.70", "2.25.70.2", "2.25.70.2.1")
    expected = study[5].pixel_array
    for media_types in (OCTETS, None):
        frames = peer.retrieve_instance_frames(*uids, [1, 3], media_types=media_types)
        assert [np.frombuffer(f, "<u2").reshape(4, 6).tolist() for f in frames] == expected[[0, 2]].tolist()
    for kind in ("image/png", "image/jpeg"):
        picture = Image.open(io.BytesIO(peer.retrieve_instance_rendered(*uids, media_types=(kind,))))
        assert picture.size == (6, 4) and picture.format is not None and picture.format.lower() in kind
    assert peer.retrieve_instance_frames_rendered(*uids, [2], media_types=("image/png",))


# -- transfer syntaxes --------------------------------------------------------------------------------------------------


def renamed(path: Path) -> tuple[bytes, pydicom.Dataset]:
    """A file under new UIDs (several of the collection share theirs), its pixels as they are stored."""
    ds = pydicom.dcmread(path)
    uid = generate_uid(prefix="2.25.", entropy_srcs=[path.name])[:60]
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = f"{uid}.1", f"{uid}.2", f"{uid}.3"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue(), ds


def decoded(data: bytes, folder: Path) -> np.ndarray:
    """Stored values by pydicom, or by DCMTK for the JPEG processes that pydicom does not decode."""
    ds = pydicom.dcmread(io.BytesIO(data))
    wide = ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.51" and ds.BitsStored > 8
    if not wide and ds.file_meta.TransferSyntaxUID not in ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"):
        return ds.pixel_array
    (folder / "in.dcm").write_bytes(data)
    subprocess.run(["/usr/bin/dcmdjpeg", folder / "in.dcm", folder / "out.dcm"], check=True)
    return pydicom.dcmread(folder / "out.dcm").pixel_array


FILES = [
    "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm",
    "CT1_J2KR",
    "CT_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm",
    "CT_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm",
    "CT_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm",
    "CT_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm",
    "CT_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm",
    "CT_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm",
    "CT_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm",
    "CT_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm",
    "CT_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm",
    "CT_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm",
    "CT_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm",
    "CT_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm",
    "CT_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm",
    "CT_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm",
    "CT_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm",
    "ct_lungfcp_htj2k_201.dcm",
    "ct_lungfcp_htj2k_202.dcm",
    "ct_lungfcp_htj2k_203.dcm",
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's remarks on the collection's headers
@pytest.mark.parametrize("name", FILES)
def test_every_transfer_syntax_goes_in_and_comes_out(
    peer: DICOMwebClient, data: Path, tmp_path: Path, name: str, address: str
) -> None:
    sent, ds = renamed(data / "dicom/transfer_syntaxes" / name)
    uids = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    kind = "application/dicom"
    place = f"{address}/studies/{uids[0]}/series/{uids[1]}/instances/{uids[2]}"
    session = peer._session
    stored = session.post(f"{address}/studies", data=sent, headers={"Content-Type": kind})
    assert stored.status_code == 200, stored.text
    assert session.get(place, headers={"Accept": f"{kind}; transfer-syntax=*"}).content == sent
    exact: Callable[..., bytes] = lambda accept: session.get(place, headers={"Accept": accept}).content  # noqa: E731
    assert exact(f"{kind}; transfer-syntax={ds.file_meta.TransferSyntaxUID}") == sent
    got = peer.retrieve_instance(*uids, media_types=(("application/dicom", "1.2.840.10008.1.2.1"),))
    assert got.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    expected = decoded(sent, tmp_path)
    assert np.array_equal(got.pixel_array, expected)
    (first, *_) = peer.retrieve_instance_frames(*uids, [1], media_types=OCTETS)
    assert first == np.asarray(expected if expected.ndim == 2 else expected[0]).astype(got.pixel_array.dtype).tobytes()
    assert {"PatientName", "PatientID", "StudyDate"} & set(dir(got)) == {"PatientName", "PatientID", "StudyDate"} & set(
        dir(ds)
    )
    assert (got.PatientID, got.Rows, got.Columns) == (ds.PatientID, ds.Rows, ds.Columns)
