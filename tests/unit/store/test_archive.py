"""The archive: filing once and for good, retrieving by UIDs, taking out; on SQLite and on PostgreSQL."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from sqlalchemy import Engine, func, select
from sqlalchemy.dialects import postgresql

from service.errors import NotFound
from service.records import Arrival, Instance, ResultObject
from service.store import database as db
from service.store import finding
from service.store.archive import Archive
from service.store.blobs import Blobs
from service.store.search import Query, criterion, tag

Arrive = Callable[..., Arrival]


@pytest.fixture
def engine(tmp_path: Path, database: str) -> Iterator[Engine]:
    opened = db.open_database(database or tmp_path / "x.sqlite")
    yield opened
    opened.dispose()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs", free_bytes=0)


@pytest.fixture
def archive(engine: Engine, blobs: Blobs) -> Archive:
    return Archive(engine, blobs)


@pytest.fixture
def arrive(tmp_path: Path) -> Arrive:
    """An instance on the disk of the intake."""
    count = iter(range(10_000))

    def make(
        sop: str = "1.2.3", content: bytes = b"content", study: str = "1.1", series: str = "1.1.1", **changes: Any
    ) -> Arrival:
        path = tmp_path / f"incoming-{next(count)}"
        path.write_bytes(content)
        door, sender = changes.pop("door", "dimse"), changes.pop("sender", "MODALITY")
        values: dict[str, Any] = {
            "rows": 4,
            "columns": 6,
            "modality": "CT",
            "patient_id": "P1",
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "image_type": ("ORIGINAL", "PRIMARY"),
            "position": (1.0, 2.0, 3.0),
            **changes,
        }
        instance = Instance(
            path=path, sha256=hashlib.sha256(content).hexdigest(), media="dicom", sop_instance_uid=sop, study_uid=study,
            series_uid=series, **values,
        )  # fmt: skip
        return Arrival(instance, door, sender, "association-1", "2026-01-15T10:00:00.000000Z")

    return make


def rows(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(db.archive).order_by(db.archive.c.sop_instance_uid)))


def outcomes(filed: Any) -> list[str]:
    return [one.outcome for one in filed]


def test_what_is_filed_is_on_the_disk_and_comes_back_as_it_was(
    archive: Archive, arrive: Arrive, engine: Engine, blobs: Blobs
) -> None:
    name = {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "山田"}]}
    arrival = arrive(instance_number=7, attributes={"00100010": name, "00080020": {"vr": "DA", "Value": ["20260115"]}})
    (filed,) = archive.add([arrival])
    assert (filed.outcome, filed.origin) == ("stored", "dimse")
    assert filed.instance.path == blobs.path(arrival.instance.sha256) and filed.instance.path.read_bytes() == b"content"
    assert not arrival.instance.path.exists()
    got = archive.instance("1.1", "1.1.1", "1.2.3")
    assert replace(got, attributes={}) == replace(arrival.instance, path=filed.instance.path, attributes={})
    assert got.attributes["00100010"] == name and got.attributes["00200013"] == {"vr": "IS", "Value": [7]}
    assert archive.by_uid("1.2.3") == got
    (row,) = rows(engine)
    assert (row.patient_name, row.study_date, row.patient_id, row.bytes) == ("Doe^Jane=山田", "20260115", "P1", 7)
    assert (row.origin, row.sender, row.association, row.received) == (
        "dimse", "MODALITY", "association-1", "2026-01-15T10:00:00.000000Z",
    )  # fmt: skip
    assert row.analysis is None and row.kind is None


def test_repeated_and_contradicting_instances(archive: Archive, arrive: Arrive, engine: Engine) -> None:
    first, same, other = arrive(), arrive(), arrive(content=b"other")
    assert outcomes(archive.add([first])) == ["stored"]
    assert outcomes(archive.add([same, other, arrive("1.2.4")])) == ["repeated", "conflict", "stored"]
    assert not same.instance.path.exists() and other.instance.path.exists()
    assert archive.by_uid("1.2.3").path.read_bytes() == b"content"
    assert [row.sop_instance_uid for row in rows(engine)] == ["1.2.3", "1.2.4"]


def test_twice_in_one_batch(archive: Archive, arrive: Arrive) -> None:
    filed = archive.add([arrive(), arrive(), arrive(content=b"other")])
    assert outcomes(filed) == ["stored", "repeated", "conflict"]


def test_one_content_under_two_uids_is_stored_once(archive: Archive, arrive: Arrive, engine: Engine) -> None:
    assert outcomes(archive.add([arrive("1.2.3"), arrive("1.2.4")])) == ["stored", "stored"]
    assert archive.by_uid("1.2.4").sop_instance_uid == "1.2.4"
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(db.instances)) == 1


def test_a_move_that_was_interrupted_is_completed(archive: Archive, arrive: Arrive, blobs: Blobs) -> None:
    """A crash after the move and before the row: the same arrival comes again without its file."""
    arrival = arrive()
    blobs.adopt(arrival.instance.path, arrival.instance.sha256)
    again = replace(arrival, instance=replace(arrival.instance, path=blobs.path(arrival.instance.sha256)))
    assert outcomes(archive.add([arrival])) == ["stored"]
    assert outcomes(archive.add([again])) == ["repeated"]
    assert archive.by_uid("1.2.3").path.read_bytes() == b"content"  # never taken for its own leftover


def test_files_of_an_http_analysis_stay_where_they_are(archive: Archive, arrive: Arrive) -> None:
    arrival = arrive(door="http", sender="")
    assert outcomes(archive.add([arrival])) == ["stored"]
    assert arrival.instance.path.exists()


def test_a_full_disk_concerns_only_what_does_not_fit(
    archive: Archive, arrive: Arrive, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = blobs.adopt

    def full(source: Path, sha256: str) -> Path:
        if source.read_bytes() == b"large":
            raise OSError(errno.ENOSPC, "full")
        return adopt(source, sha256)

    monkeypatch.setattr(blobs, "adopt", full)
    filed = archive.add([arrive("1.1"), arrive("1.2", b"large"), arrive("1.3", b"small")])
    assert outcomes(filed) == ["stored", "no_space", "stored"]
    assert filed[1].instance.path.exists()
    with pytest.raises(NotFound):
        archive.by_uid("1.2")


def test_other_faults_of_the_disk_are_not_hidden(
    archive: Archive, arrive: Arrive, blobs: Blobs, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    def broken(*_: Any) -> Path:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(blobs, "adopt", broken)
    with pytest.raises(OSError, match="broken"):
        archive.add([arrive()])
    assert rows(engine) == []


def test_another_process_that_was_faster_is_noticed(
    archive: Archive, arrive: Arrive, blobs: Blobs, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival, adopt = Archive(engine, blobs), blobs.adopt

    def slow(source: Path, sha256: str) -> Path:
        monkeypatch.setattr(blobs, "adopt", adopt)
        assert outcomes(rival.add([arrive(content=b"rival")])) == ["stored"]
        return adopt(source, sha256)

    monkeypatch.setattr(blobs, "adopt", slow)
    assert outcomes(archive.add([arrive()])) == ["conflict"]
    assert archive.by_uid("1.2.3").path.read_bytes() == b"rival"


def test_many_threads_file_the_same_and_nothing_is_lost(archive: Archive, arrive: Arrive, engine: Engine) -> None:
    batches = [[arrive(f"1.2.{n}", f"content {n}".encode()) for n in range(30)] for _ in range(4)]
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda b=b: found.append(outcomes(archive.add(b)))) for b in batches]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chain.from_iterable(found)) == ["repeated"] * 90 + ["stored"] * 30
    assert len(rows(engine)) == 30


def test_more_than_one_statement_holds(archive: Archive, arrive: Arrive) -> None:
    arrivals = [arrive(f"1.2.{n}", str(n).encode(), instance_number=n) for n in range(1203)]
    assert set(outcomes(archive.add(arrivals))) == {"stored"}
    assert [i.instance_number for i in archive.series_instances("1.1", "1.1.1")] == list(range(1203))
    assert len(archive.remove([a.instance.sop_instance_uid for a in arrivals])) == 1203


def test_series_and_studies_are_in_order(archive: Archive, arrive: Arrive) -> None:
    for sop, series, number in (("1", "1.2", 10), ("2", "1.2", 9), ("3", "1.1", None), ("4", "1.1", 1)):
        archive.add([arrive(sop, sop.encode(), series=series, instance_number=number)])
    archive.add([arrive("5", b"5", study="1.9")])
    assert [i.sop_instance_uid for i in archive.series_instances("1.1", "1.2")] == ["2", "1"]
    assert [i.sop_instance_uid for i in archive.study_instances("1.1")] == ["4", "3", "2", "1"]


@pytest.mark.parametrize("uids", [("1.1", "1.1.1", "9"), ("9", "1.1.1", "1.2.3"), ("1.1", "9", "1.2.3")])
def test_all_uids_must_fit(archive: Archive, arrive: Arrive, uids: tuple[str, str, str]) -> None:
    archive.add([arrive()])
    with pytest.raises(NotFound):
        archive.instance(*uids)


def test_nothing_there_is_not_found(archive: Archive) -> None:
    for ask in (
        lambda: archive.study_instances("1"),
        lambda: archive.series_instances("1", "1"),
        lambda: archive.by_uid("1"),
    ):
        with pytest.raises(NotFound):
            ask()


def test_the_sender_of_a_series(archive: Archive, arrive: Arrive) -> None:
    assert archive.sender("1.1.1") == ""
    archive.add([replace(arrive("1", b"1", sender="FIRST"), received="2026-01-01T00:00:00.000000Z")])
    archive.add([replace(arrive("2", b"2", sender="LAST"), received="2026-01-02T00:00:00.000000Z")])
    archive.add([replace(arrive("3", b"3", sender="", door="http"), received="2026-01-03T00:00:00.000000Z")])
    assert archive.sender("1.1.1") == "LAST"


def test_removed_instances_are_out_and_their_contents_named(archive: Archive, arrive: Arrive, blobs: Blobs) -> None:
    one, two = arrive("1", b"1"), arrive("2", b"2")
    archive.add([one, two])
    assert archive.remove(["1", "unknown"]) == [one.instance.sha256]
    assert archive.remove(["1"]) == []
    with pytest.raises(NotFound):
        archive.by_uid("1")
    assert archive.by_uid("2") and blobs.path(one.instance.sha256).exists()


def test_values_that_do_not_fit_a_column_are_cut_and_stay_whole_in_the_attributes(
    archive: Archive, arrive: Arrive, engine: Engine
) -> None:
    long = {"vr": "SH", "Value": ["x" * 200]}
    archive.add([arrive(attributes={"00080050": long, "00100010": {"vr": "PN", "Value": ["a\0b"]}}, modality="M" * 40)])
    (row,) = rows(engine)
    assert len(row.accession_number) == 64 and len(row.modality) == 16 and "\0" not in row.patient_name
    assert json.loads(row.attributes)["00080050"] == long
    widths = {c.name: c.type.length for c in db.archive.columns if getattr(c.type, "length", None)}
    assert all(
        len(getattr(row, name) or "") <= width for name, width in widths.items()
    )  # PostgreSQL refuses longer ones


# -- results ------------------------------------------------------------------------------------------------------------


def result(sop: str = "2.25.9", **changes: Any) -> ResultObject:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet, ds.PatientName, ds.PatientID = "ISO_IR 100", "Müller^Änne", "P-9"
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, sop
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = "1.1", "2.25.8", "OT", 3
    ds.StudyDate, ds.SeriesDescription, ds.ImageType = "20260115", "Overlay", ["DERIVED", "SECONDARY"]
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 2, 3, 3, "RGB"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.PlanarConfiguration = 8, 8, 7, 0, 0
    ds.PixelData = np.zeros(18, np.uint8).tobytes()
    ds["PixelData"].VR = "OB"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, sop
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return ResultObject("SC", SecondaryCaptureImageStorage, sop, "2.25.8", stream.getvalue())


def test_results_are_filed_like_anything_else(archive: Archive, engine: Engine, blobs: Blobs) -> None:
    made = result()
    assert outcomes(archive.add_results("a" * 32, [made])) == ["stored"]
    assert outcomes(archive.add_results("b" * 32, [made])) == ["repeated"]
    got = archive.instance("1.1", "2.25.8", "2.25.9")
    assert got.path.read_bytes() == made.data
    assert (got.rows, got.columns, got.samples, got.bits, got.photometric) == (2, 3, 3, 8, "RGB")
    assert (got.has_pixels, got.instance_number, got.image_type) == (True, 3, ("DERIVED", "SECONDARY"))
    assert got.attributes["00100010"]["Value"] == [{"Alphabetic": "Müller^Änne"}]
    assert got.attributes["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert got.attributes["0008103E"]["Value"] == ["Overlay"] and "7FE00010" not in got.attributes
    (row,) = rows(engine)
    assert (row.origin, row.kind, row.analysis, row.sender) == ("result", "SC", "a" * 32, "")
    assert list(blobs.root.glob("*.part")) == []


def test_a_result_that_comes_back_is_known_as_ours(archive: Archive, arrive: Arrive) -> None:
    made = result()
    archive.add_results("a" * 32, [made])
    (filed,) = archive.add([arrive("2.25.9", made.data, series="2.25.8")])
    assert (filed.outcome, filed.origin) == ("repeated", "result")
    (filed,) = archive.add([arrive("2.25.9", b"changed", series="2.25.8")])
    assert (filed.outcome, filed.origin) == ("conflict", "result")


# -- search -------------------------------------------------------------------------------------------------------------


def found(archive: Archive, level: Any, *keys: tuple[str, str], limit: int = 100, offset: int = 0) -> list[str]:
    criteria = tuple(criterion((tag(keyword),), text) for keyword, text in keys)
    page = archive.search(Query(level, criteria, limit, offset))
    return [f"{one.study_uid} {one.series_uid} {one.sop_instance_uid}" for one in page.found]


def test_counts_are_of_the_whole_study_whatever_the_key_matches(archive: Archive, arrive: Arrive) -> None:
    archive.add(
        [arrive("1", b"1", "S1", "A"), arrive("2", b"2", "S1", "A"), arrive("3", b"3", "S1", "B", modality="SR")]
    )
    archive.add([arrive("4", b"4", "S2", "A")])  # a series UID used twice
    page = archive.search(Query("series", (criterion((tag("Modality"),), "SR"),), 10))
    (one,) = page.found
    assert (one.series_uid, one.study_series, one.study_instances, one.series_instances) == ("B", 2, 3, 1)
    assert one.modalities == ("CT", "SR") and not page.more
    assert len(archive.search(Query("series", (), 10)).found) == 3
    assert len(archive.search(Query("study", (), 10)).found) == 2


def test_a_sequence_key_looks_into_all_items(archive: Archive, arrive: Arrive) -> None:
    items = [{"00400009": {"vr": "SH", "Value": [value]}} for value in ("STEP-1", "STEP-2")]
    archive.add([arrive(attributes={"00400275": {"vr": "SQ", "Value": items}})])
    for text, count in (("STEP-2", 1), ("STEP-*", 1), ("STEP-3", 0)):
        key = criterion(("00400275", "00400009"), text)
        assert len(archive.search(Query("series", (key,), 10)).found) == count


@pytest.mark.parametrize("keys", [[], [("PatientID", "P1")], [("StudyInstanceUID", "1.1")]])
def test_pages_are_the_same_however_they_are_made(
    archive: Archive, arrive: Arrive, keys: list[tuple[str, str]]
) -> None:
    archive.add([arrive(str(n), str(n).encode(), instance_number=n) for n in range(1, 12)])
    whole = found(archive, "instance", *keys)
    assert len(whole) == 11 and whole[1].endswith(" 2")
    assert [one for n in (0, 4, 8) for one in found(archive, "instance", *keys, limit=4, offset=n)] == whole
    assert archive.search(Query("instance", (), 11)).more is False
    assert archive.search(Query("instance", (), 10)).more is True


def test_the_database_never_hides_what_a_key_matches(archive: Archive, arrive: Arrive) -> None:
    """What SQL narrows by must not be stricter than the comparison of the values themselves."""
    names = ["Doe^Jane", "DOE^JANE^^", "doe^j%", "Do_e", "O'Hara^X", "Ärzte^Ö", "A\\B", ""]
    for n, name in enumerate(names):
        archive.add([arrive(str(n), str(n).encode(), f"1.{n}", f"2.{n}", patient_id=f"{name}-{n}", attributes={
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}] if name else []}})])  # fmt: skip
    for text in ("doe^jane", "DOE*", "*%", "do?e", "Do_e", "o'hara^*", "ärzte*", "*JANE*", "*", "?oe^jane", "a*"):
        key = criterion((tag("PatientName"),), text)
        expected = {n for n, name in enumerate(names) if name and key.accepts({"Alphabetic": name})}
        got = {int(one.rsplit(" ", 1)[1]) for one in found(archive, "study", ("PatientName", text))}
        assert got == expected, text
    for text in ("Do*", "*_*", "*%-2", "A\\*", "?o_e-3", "*'*"):
        identity = criterion((tag("PatientID"),), text)
        expected = {n for n, name in enumerate(names) if identity.accepts(f"{name}-{n}")}
        got = {int(one.rsplit(" ", 1)[1]) for one in found(archive, "study", ("PatientID", text))}
        assert got == expected, text


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_the_statements_compile_for_postgresql(engine: Engine, level: Any) -> None:
    keys = [("PatientName", "doe*"), ("StudyDate", "20260101-"), ("StudyInstanceUID", "1.2,1.3"), ("PatientID", "P?")]
    query = Query(level, tuple(criterion((tag(keyword),), text) for keyword, text in keys), 10)
    text = str(finding._statement(engine, query).compile(dialect=postgresql.dialect()))
    assert "lower(archive.patient_name) LIKE" in text and "archive.study_date >=" in text


def test_the_same_data_set_by_another_way_is_the_same_instance(tmp_path: Path) -> None:
    """Preamble and meta information name the sender; a changed data set, or other meta without a length, is another matter."""
    from service.store.filing import same_data_set

    def file(name: str, preamble: bytes, source: bytes, rest: bytes, counted: bool = True) -> Path:
        meta = b"\x02\x00\x16\x00AE" + len(source).to_bytes(2, "little") + source
        length = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
        path = tmp_path / name
        path.write_bytes(preamble * 128 + b"DICM" + (length if counted else b"") + meta + rest)
        return path

    one = file("one", b"\0", b"PACS", b"\x08\x00data")
    assert same_data_set(one, file("two", b"x", b"MODALITY", b"\x08\x00data"))
    assert not same_data_set(one, file("three", b"\0", b"PACS", b"\x08\x00datA"))
    assert not same_data_set(one, file("four", b"\0", b"PACS", b"\x08\x00data and more"))
    bare = file("five", b"\0", b"PACS", b"\x08\x00data", counted=False)
    assert same_data_set(bare, bare) and not same_data_set(
        bare, file("six", b"\0", b"ELSE", b"\x08\x00data", counted=False)
    )
