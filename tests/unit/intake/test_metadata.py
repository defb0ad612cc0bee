"""Whole headers as JSON and as data sets, bulk values by their path, against pydicom; and answers that lie."""

from __future__ import annotations

import base64
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from service.errors import InputError, OutOfContract, TooLarge
from service.intake import answers, json_model, wire
from service.intake.limits import Limits
from service.intake.sandbox import Sandbox
from service.records import Instance

Build = Callable[..., bytes]
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
LUT = np.arange(700, dtype="<u2")


@pytest.fixture
def read(put: Callable[[bytes], Path], sandbox: Sandbox) -> Callable[[bytes], Instance]:
    def inspect(data: bytes) -> Instance:
        [instance] = sandbox.inspect([put(data)])
        return instance

    return inspect


def item(**elements: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def rich(make_dicom: Build, syntax: str, big: bool = False) -> bytes:
    """A slice with sequences, an icon, a look-up table, private elements, long texts and numbers of every kind."""
    order = ">" if big else "<"
    icon = item(Rows=30, Columns=40, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)
    icon.add_new(0x7FE00010, "OW", LUT[:600].astype(order + "u2").tobytes())
    lut = item(LUTDescriptor=[700, 0, 16], LUTExplanation="table")
    lut["LUTDescriptor"].VR = "US"
    lut.add_new(0x00283006, "OW", LUT.astype(order + "u2").tobytes())
    short = item(LUTDescriptor=[5, 0, 16], LUTExplanation="short")
    short["LUTDescriptor"].VR = "US"
    short.add_new(0x00283006, "OW", LUT[:5].astype(order + "u2").tobytes())
    return make_dicom(
        syntax=syntax,
        PatientName="Müller^Jörg",
        SpecificCharacterSet="ISO_IR 100",
        IconImageSequence=[icon],
        VOILUTSequence=[short, lut],
        PatientComments="c" * 3000,
        ReferencedImageSequence=[
            item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="2.25.5", PurposeOfReferenceCodeSequence=[]),
        ],
        DataCollectionCenterPatient=[1.5, float("inf"), -2.0],
        FrameIncrementPointer=[0x00181063, 0x00181065],
        SmallestImagePixelValue=-20,
        OtherPatientIDs=["a", "", "c"],
    )


def peer(data: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(io.BytesIO(data))
        del ds.PixelData
        return ds.to_json_dict()


class TestMetadata:
    @pytest.mark.parametrize("syntax", SYNTAXES)
    def test_against_pydicom(self, syntax: str, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        """Equal where pydicom has no say of its own: bulk values, the character set, infinity and big endian words."""
        data = rich(make_dicom, syntax, syntax == ExplicitVRBigEndian)
        found, expected = sandbox.metadata(read(data)), peer(data)
        assert found.pop("7FE00010") == {"vr": "OW", "BulkDataURI": "bulkdata/7FE00010"}
        assert found.pop("00104000") == {"vr": "LT", "BulkDataURI": "bulkdata/00104000"}
        assert expected.pop("00104000")["Value"] == ["c" * 3000]
        assert found["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
        assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]}
        assert found["00189313"] == {"vr": "FD", "Value": [1.5, None, -2.0]}
        assert found["00101000"]["Value"] == ["a", None, "c"]
        assert found["00280009"]["Value"] == ["00181063", "00181065"]
        assert found["00081140"]["Value"][0]["0040A170"] == {"vr": "SQ"}
        icon, luts = found.pop("00880200")["Value"][0], found.pop("00283010")["Value"]
        assert icon["7FE00010"] == {"vr": "OW", "BulkDataURI": "bulkdata/00880200/1/7FE00010"}
        assert luts[1]["00283006"] == {"vr": "OW", "BulkDataURI": "bulkdata/00283010/2/00283006"}
        assert base64.b64decode(luts[0]["00283006"]["InlineBinary"]) == LUT[:5].tobytes()
        for key in ("00080005", "00189313", "00101000", "00880200", "00283010", "00081140"):
            found.pop(key, None)
            expected.pop(key)
        assert found == expected

    def test_no_file_meta_and_no_group_lengths(self, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        data = make_dicom()
        at = data.index(b"\x08\0\x16\0UI")
        found = sandbox.metadata(read(data[:at] + b"\x08\0\0\0UL\4\0\x10\0\0\0" + data[at:]))
        assert not [key for key in found if key.startswith("0002") or key.endswith("0000")]

    def test_private_elements_are_kept(self, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        data = make_dicom()
        at = data.index(b"\x08\0\x16\0UI")
        private = b"\x09\0\x10\0LO\4\0ACME" + b"\x09\0\x01\x10UN\0\0" + struct.pack("<L", 4) + b"\1\2\3\4"
        private += b"\x09\0\x02\x10OB\0\0" + struct.pack("<L", 2000) + bytes(2000)
        end = data.index(b"\x10\0\x20\0LO")
        found = sandbox.metadata(read(data[:end] + private + data[end:]))
        assert at < end
        assert found["00090010"] == {"vr": "LO", "Value": ["ACME"]}
        assert found["00091001"] == {"vr": "UN", "InlineBinary": base64.b64encode(b"\1\2\3\4").decode()}
        assert found["00091002"] == {"vr": "OB", "BulkDataURI": "bulkdata/00091002"}

    def test_broken_values_are_left_out(self, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        data = (
            make_dicom(TableHeight=170.125, ExposureTime=4711).replace(b"170.125", b"a metre").replace(b"4711", b"long")
        )
        found = sandbox.metadata(read(data))
        assert "00181130" not in found and "00181150" not in found
        assert found["00280010"]["Value"] == [6]

    def test_large_document_stays_in_the_file(self, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        document = b"%PDF" * (10 << 20)
        instance = read(make_dicom(None, EncapsulatedDocument=document, Rows=None, Columns=None))
        found = sandbox.metadata(instance)
        assert found["00420011"] == {"vr": "OB", "BulkDataURI": "bulkdata/00420011"}
        assert bytes(sandbox.bulk(instance, "00420011")) == document

    @pytest.mark.parametrize("count", [3000, 30_000])
    def test_long_sequence_is_read_though_it_is_large(
        self, count: int, make_dicom: Build, read: Any, sandbox: Sandbox
    ) -> None:
        """More than the 64 KiB from which on other values stay in the file."""
        items = [item(ReferencedSOPInstanceUID=f"2.25.{k}") for k in range(count)]
        found = sandbox.metadata(read(make_dicom(ReferencedImageSequence=items)))
        assert [entry["00081155"]["Value"] for entry in found["00081140"]["Value"]] == [
            [f"2.25.{k}"] for k in range(count)
        ]

    def test_more_json_than_is_given(self, put: Any, make_dicom: Build, tmp_path: Path) -> None:
        with Sandbox(tmp_path / "spool", Limits(header_bytes=100_000), workers=1) as small:
            items = [item(ReferencedSOPInstanceUID=f"2.25.{k}") for k in range(2500)]
            [instance] = small.inspect([put(make_dicom(ReferencedImageSequence=items))])
            with pytest.raises(TooLarge, match="bytes as JSON"):
                small.metadata(instance)

    @pytest.mark.parametrize("depth", [15, 17, 60])
    def test_nesting(self, depth: int, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        data = make_dicom()
        at = data.index(b"\x08\0\x16\0UI")
        opened = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        instance = read(data[:at] + opened * depth + closed * depth + data[at:])
        if depth > 16:
            with pytest.raises(InputError, match="nested more than 16 deep"):
                sandbox.metadata(instance)
        else:
            assert json.dumps(sandbox.metadata(instance)).count("00081115") == depth

    def test_bottomless_nesting(self, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        """Behind the pixels' group nothing is read: it must come before, and is refused at inspection already."""
        data = make_dicom()
        at = data.index(b"\x08\0\x16\0UI")
        nested = b"\x08\0\x15\0SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 50_000
        instance = read(data)
        instance.path.write_bytes(data[:at] + nested + data[at:])
        for ask in (sandbox.metadata, sandbox.header, lambda i: sandbox.bulk(i, "00081115")):
            with pytest.raises(InputError, match="damaged"):
                ask(instance)

    def test_real_series_against_pydicom(self, data: Path, put: Any, sandbox: Sandbox) -> None:
        with zipfile.ZipFile(data / "dicom" / "ct_lungfcp_0001.zip") as series:
            one = series.read(series.namelist()[50])
        found, expected = sandbox.metadata(sandbox.inspect([put(one)])[0]), peer(one)
        assert found.pop("7FE00010") == {"vr": "OB", "BulkDataURI": "bulkdata/7FE00010"}
        assert found.pop("00080005")["Value"] == ["ISO_IR 192"]
        assert expected.pop("00080005")["Value"] == ["ISO_IR 100"]
        assert found == expected


class TestHeader:
    def test_as_read_from_the_file(self, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        data = rich(make_dicom, ExplicitVRLittleEndian)
        found, expected = sandbox.header(read(data)), pydicom.dcmread(io.BytesIO(data))
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "PixelSpacing", "Rows", "SliceThickness",
                        "FrameIncrementPointer", "SmallestImagePixelValue", "InstanceNumber", "OtherPatientIDs"):  # fmt: skip
            assert found[keyword].value == expected[keyword].value, keyword
        assert found.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "2.25.5"
        assert found.VOILUTSequence[0].LUTData == LUT[:5].tobytes()
        assert "PixelData" not in found and "PatientComments" not in found
        assert "LUTData" not in found.VOILUTSequence[1]

    def test_values_against_the_rules_raise_no_warning(self, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        """Warnings are errors in these tests, and pydicom's would quote the patient."""
        found = sandbox.header(
            read(make_dicom(PatientID="x" * 100, StudyInstanceUID="1.02.3", PatientBirthDate="1970", PatientSex="male"))
        )
        assert (found.PatientID, found.PatientBirthDate, found.PatientSex) == ("x" * 100, "1970", "male")

    def test_it_can_be_written(self, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        found = sandbox.header(read(rich(make_dicom, ExplicitVRLittleEndian)))
        del found.DataCollectionCenterPatient  # infinity became nothing, and nothing has no eight bytes
        stream = io.BytesIO()
        found.save_as(stream, implicit_vr=False, little_endian=True)
        again = pydicom.dcmread(io.BytesIO(stream.getvalue()), force=True)
        assert again.PatientName == "Müller^Jörg"
        assert again.PixelSpacing == [0.7, 0.8]

    def test_headers_in_order_and_one_a_file(
        self, make_dicom: Build, read: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        instances = [read(make_dicom(SOPInstanceUID=f"2.25.{k}")) for k in (5, 3, 4)]
        asked: list[str] = []
        header = sandbox.header
        monkeypatch.setattr(sandbox, "header", lambda i: (asked.append(i.sop_instance_uid), header(i))[1])
        found = sandbox.headers([*instances, instances[0]])
        assert [ds.SOPInstanceUID for ds in found] == ["2.25.5", "2.25.3", "2.25.4", "2.25.5"]
        assert sorted(asked) == ["2.25.3", "2.25.4", "2.25.5"]


class TestBulk:
    @pytest.mark.parametrize("syntax", SYNTAXES)
    def test_values_in_little_endian(self, syntax: str, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        data = rich(make_dicom, syntax, syntax == ExplicitVRBigEndian)
        instance = read(data)
        assert bytes(sandbox.bulk(instance, "00283010/2/00283006")) == LUT.tobytes()
        assert bytes(sandbox.bulk(instance, "00283010/1/00283006")) == LUT[:5].tobytes()
        assert bytes(sandbox.bulk(instance, "00880200/1/7FE00010")) == LUT[:600].tobytes()
        assert bytes(sandbox.bulk(instance, "00104000")) == b"c" * 3000
        grey = np.arange(48, dtype="<i2") - 20
        stored = grey.byteswap() if syntax == ExplicitVRBigEndian else grey
        instance = read(make_dicom(stored.reshape(6, 8), syntax))
        assert bytes(sandbox.bulk(instance, "7FE00010")) == grey.tobytes()

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "7fe00010",
            "../../etc/passwd",
            "00880200/0/7FE00010",
            "00880200/1",
            "00880200/1/7FE00010/1/",
            "1" * 500,
            "zz",
        ],
    )
    def test_malformed_paths(self, path: str, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        with pytest.raises(OutOfContract, match="path of a bulk value"):
            sandbox.bulk(read(make_dicom()), path)

    @pytest.mark.parametrize("path", ["00420011", "00880200/2/7FE00010", "00880200/1/00420011", "00100010/1/00100020"])
    def test_nothing_there(self, path: str, make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
        with pytest.raises(OutOfContract, match="no such value"):
            sandbox.bulk(read(rich(make_dicom, ExplicitVRLittleEndian)), path)

    def test_compressed_pixels_come_as_frames(self, data: Path, sandbox: Sandbox) -> None:
        [instance] = sandbox.inspect([data / "dicom" / "transfer_syntaxes" / "CT1_J2KR"])
        assert instance.transfer_syntax_uid == JPEG2000Lossless
        with pytest.raises(OutOfContract, match="ask for its frames"):
            sandbox.bulk(instance, "7FE00010")

    def test_more_than_is_given(self, make_dicom: Build, put: Any, tmp_path: Path) -> None:
        with Sandbox(tmp_path / "spool", Limits(bulk_bytes=1000), workers=1) as small:
            [instance] = small.inspect([put(make_dicom(np.zeros((40, 40), np.int16), PatientComments="c" * 2000))])
            for path in ("7FE00010", "00104000"):
                with pytest.raises(TooLarge, match="at most 1000"):
                    small.bulk(instance, path)


class TestAnswersAreNotTrusted:
    @pytest.mark.parametrize(
        "text",
        [
            b"[]",
            b"null",
            b"{",
            b'{"a":' * 100_000,
            b'{"00100020":{"vr":"LO","Value":[' + b"[" * 100_000,
            b'{"00100020":{"vr":"LO","Value":[NaN]}}',
            b'{"00280030":{"vr":"DS","Value":[NaN]}}',
            b'{"00280030":{"vr":"DS","Value":[1e999]}}',
            b'{"00100020":{"vr":"LO","Value":["\\ud800"]}}',
            b'{"00100020":{"Value":["a"]}}',
            b'{"7FE00010":{"vr":"OW","BulkDataURI":"http://elsewhere/"}}',
            b'{"7FE00010":{"vr":"OW","BulkDataURI":"bulkdata/../../x"}}',
            b'{"7FE00010":{"vr":"OW","BulkDataURI":"bulkdata/7FE00010","Value":[]}}',
            b'{"7FE00010":{"vr":"SQ","BulkDataURI":"bulkdata/7FE00010"}}',
            b'{"00880200":{"vr":"SQ","Value":[{"7FE00010":{"vr":"OW","BulkDataURI":"bulkdata/7FE00010"}}]}}',
            b'{"00091001":{"vr":"UN","InlineBinary":"!!"}}',
            b'{"00091001":{"vr":"UN","InlineBinary":7}}',
            b'{"00091001":{"vr":"UN","InlineBinary":"' + b"A" * 10_000 + b'"}}',
            b'{"00280009":{"vr":"AT","Value":["nonsense"]}}',
            b'{"00280009":{"vr":"AT","Value":[1]}}',
            ("{%s}" % ('"0040A730":{"vr":"SQ","Value":[{' * 40 + "}]}" * 40)).encode(),
        ],
    )
    def test_lies(self, text: bytes) -> None:
        with pytest.raises((ValueError, TypeError, KeyError)):
            answers.model(bytearray(text))

    def test_truth(self) -> None:
        text = (
            b'{"00100020":{"vr":"LO","Value":["a\\n",null]},"00100040":{"vr":"CS"},"00280030":{"vr":"DS","Value":[1,2.5]},'
            b'"0040A730":{"vr":"SQ","Value":[{"7FE00010":{"vr":"OW","BulkDataURI":"bulkdata/0040A730/1/7FE00010"}},{}]}}'
        )
        assert answers.model(bytearray(text)) == json.loads(text)
        ds = json_model.dataset(json.loads(text))
        assert (list(ds.PatientID), ds.PatientSex, list(ds.PixelSpacing)) == (["a\n", ""], None, [1, 2.5])
        assert [len(one) for one in ds.ContentSequence] == [0, 0]

    def test_deep_header_is_no_message(self) -> None:
        with pytest.raises(ValueError, match="deep"):
            wire.header(b'{"a":' * 10_000)
