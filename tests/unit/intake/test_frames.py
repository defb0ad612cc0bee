"""Single frames, stored and decoded, whole instances uncompressed, and pictures: against pydicom, DCMTK and arithmetic."""

from __future__ import annotations

import io
import struct
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from service.errors import InputError, OutOfContract, TooLarge, UnknownMedia
from service.intake.sandbox import Limits, Sandbox
from service.records import Instance

Build = Callable[..., bytes]
Read = Callable[[bytes], Instance]

NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
VOLUME = np.random.default_rng(1).integers(-2000, 2000, (3, 6, 8)).astype("<i2")
COLOUR = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8, "BitsStored": 8,
          "HighBit": 7, "PixelRepresentation": 0}  # fmt: skip
EIGHT = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
ONE_BIT = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelRepresentation": 0}


@pytest.fixture
def read(put: Callable[[bytes], Path], sandbox: Sandbox) -> Read:
    def inspect(data: bytes) -> Instance:
        [instance] = sandbox.inspect([put(data)])
        return instance

    return inspect


def multi(make_dicom: Build, volume: np.ndarray, **changes: Any) -> bytes:
    """Several frames one after the other."""
    size = {"Rows": volume.shape[1], "Columns": volume.shape[2], "NumberOfFrames": len(volume)}
    return make_dicom(volume.tobytes(), **size, **changes)


def files(data: Path) -> list[Path]:
    return sorted((data / "dicom" / "transfer_syntaxes").iterdir())


class TestNativeFrames:
    @pytest.mark.parametrize("decoded", [True, False])
    @pytest.mark.parametrize("syntax", NATIVE)
    def test_each_frame(self, syntax: str, decoded: bool, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        stored = VOLUME.astype(">i2") if syntax == ExplicitVRBigEndian else VOLUME
        instance = read(multi(make_dicom, stored, syntax=syntax))
        for number in (1, 2, 3):
            found = sandbox.frame(instance, number, decoded)
            assert (bytes(found[0]), found[1]) == (VOLUME[number - 1].tobytes(), ExplicitVRLittleEndian)

    def test_words_of_two_samples_in_big_endian(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        """Eight bits a sample in OW: big endian swaps the bytes of each word (PS3.5 8.1.2), here across odd frames."""
        volume = np.arange(1, 1 + 3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
        raw = volume.tobytes() + b"\0"
        swapped = np.frombuffer(raw, "<u2").byteswap().tobytes()
        data = make_dicom(
            swapped, syntax=ExplicitVRBigEndian, Rows=5, Columns=3, NumberOfFrames=3, RescaleSlope=None, **EIGHT
        )
        at = data.rindex(b"\x7f\xe0\x00\x10OB")
        instance = read(data[: at + 4] + b"OW" + data[at + 6 :])
        for number in (1, 2, 3):
            assert bytes(sandbox.frame(instance, number)[0]) == volume[number - 1].tobytes()
            np.testing.assert_array_equal(sandbox.rendered(instance, number, (128, 256)), volume[number - 1])

    @pytest.mark.parametrize(("rows", "columns"), [(8, 8), (5, 3), (7, 9)])
    @pytest.mark.parametrize("syntax", NATIVE)
    def test_bits(self, rows: int, columns: int, syntax: str, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        """Frames of 1 bit follow each other to the bit; each is given from the lowest bit of a byte on."""
        masks = np.random.default_rng(2).integers(0, 2, (5, rows, columns)).astype(np.uint8)
        raw = np.packbits(masks.ravel(), bitorder="little").tobytes()
        raw += b"\0" * (len(raw) % 2)
        if syntax == ExplicitVRBigEndian:
            raw = np.frombuffer(raw, "<u2").byteswap().tobytes()
        data = make_dicom(raw, syntax=syntax, Rows=rows, Columns=columns, NumberOfFrames=5, **ONE_BIT)
        if syntax == ExplicitVRBigEndian:
            at = data.rindex(b"\x7f\xe0\x00\x10OB")
            data = data[: at + 4] + b"OW" + data[at + 6 :]
        instance = read(data)
        for number in range(1, 6):
            mask = masks[number - 1]
            packed, _ = sandbox.frame(instance, number)
            assert bytes(packed) == np.packbits(mask.ravel(), bitorder="little").tobytes()
            np.testing.assert_array_equal(sandbox.rendered(instance, number), mask * 255)

    def test_floats(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        """Float Pixel Data (7FE0,0008) of a parametric map, with a value that is none."""
        volume = np.linspace(-1e-3, 1e-3, 40, dtype="<f4").reshape(2, 4, 5).copy()
        volume[1, 0, 0] = np.nan
        data = make_dicom(None, Rows=4, Columns=5, NumberOfFrames=2, BitsAllocated=32, BitsStored=None, HighBit=None,
                          RescaleSlope=None, RescaleIntercept=None, PixelRepresentation=None)  # fmt: skip
        data += b"\xe0\x7f\x08\0OF\0\0" + struct.pack("<L", volume.nbytes) + volume.tobytes()
        instance = read(data)
        assert instance.has_pixels
        assert bytes(sandbox.frame(instance, 2)[0]) == volume[1].tobytes()
        assert sandbox.metadata(instance)["7FE00008"] == {"vr": "OF", "BulkDataURI": "bulkdata/7FE00008"}
        assert bytes(sandbox.bulk(instance, "7FE00008")) == volume.tobytes()
        shown = sandbox.rendered(instance, 2)
        assert (shown[0, 0], shown[0, 1], shown[3, 4]) == (0, 0, 255)
        ramp = (volume[1] - volume[1, 0, 1]) / (volume[1, 3, 4] - volume[1, 0, 1]) * 255
        np.testing.assert_allclose(shown.ravel()[1:], np.rint(ramp).ravel()[1:], atol=1)

    def test_planes_stay_planes(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        """What is native stays as its metadata say: colour-by-plane."""
        planes = np.arange(3 * 4 * 5, dtype=np.uint8)
        data = make_dicom(planes.tobytes(), Rows=4, Columns=5, **{**COLOUR, "PlanarConfiguration": 1})
        instance = read(data)
        assert bytes(sandbox.frame(instance)[0]) == planes.tobytes()
        np.testing.assert_array_equal(sandbox.rendered(instance), planes.reshape(3, 4, 5).transpose(1, 2, 0))

    @pytest.mark.parametrize("number", [0, 4, -1, 10**9])
    def test_no_such_frame(self, number: int, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        instance = read(multi(make_dicom, VOLUME))
        for ask in (sandbox.frame, sandbox.rendered):
            with pytest.raises(OutOfContract, match="frames are 1 to 3"):
                ask(instance, number)

    def test_no_pixels(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        instance = read(make_dicom(None))
        for ask in (sandbox.frame, sandbox.rendered):
            with pytest.raises(OutOfContract, match="no image in it"):
                ask(instance)

    def test_photograph_is_no_dicom(self, encode: Build, read: Read, sandbox: Sandbox, tmp_path: Path) -> None:
        instance = read(encode(np.zeros((4, 5, 3), np.uint8), "PNG"))
        for ask in (sandbox.frame, sandbox.rendered, sandbox.metadata, sandbox.references):
            with pytest.raises(OutOfContract, match="no DICOM instance"):
                ask(instance)


class TestCompressedFrames:
    FRAMES = tuple(np.random.default_rng(k).integers(0, 250, (64, 64), dtype=np.uint8) for k in range(3))

    def encoded(self) -> list[bytes]:
        return [encode_array(frame, photometric_interpretation=2) for frame in self.FRAMES]

    def check(self, data: bytes, sandbox: Sandbox, read: Read) -> None:
        instance = read(data)
        for number, (frame, code) in enumerate(zip(self.FRAMES, self.encoded(), strict=True), 1):
            stored, syntax = sandbox.frame(instance, number, False)
            assert (bytes(stored).rstrip(b"\0"), syntax) == (code.rstrip(b"\0"), JPEG2000Lossless)
            raw, syntax = sandbox.frame(instance, number, True)
            assert (bytes(raw), syntax) == (frame.tobytes(), ExplicitVRLittleEndian)

    @pytest.mark.parametrize("table", [True, False])
    @pytest.mark.parametrize("fragments", [1, 3])
    def test_tables_and_fragments(
        self, table: bool, fragments: int, make_dicom: Build, read: Read, sandbox: Sandbox
    ) -> None:
        value = encapsulate(self.encoded(), fragments_per_frame=fragments, has_bot=table)
        size = {"Rows": 64, "Columns": 64, "NumberOfFrames": 3, **EIGHT}
        self.check(make_dicom(value, JPEG2000Lossless, **size), sandbox, read)

    def test_extended_offset_table(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        value, offsets, lengths = encapsulate_extended(self.encoded())
        size = {"Rows": 64, "Columns": 64, "NumberOfFrames": 3, **EIGHT}
        tables = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
        self.check(make_dicom(value, JPEG2000Lossless, **size, **tables), sandbox, read)

    @pytest.mark.parametrize(
        ("offsets", "lengths"),
        [
            ([0, 1 << 40, 2], [10, 10, 10]),
            ([0, 8, 16], [1 << 40, 1 << 40, 1 << 40]),
            ([(1 << 64) - 1] * 3, [(1 << 64) - 1] * 3),
            ([0], [10]),
        ],
    )
    def test_tables_that_lie(
        self, offsets: list[int], lengths: list[int], make_dicom: Build, read: Read, sandbox: Sandbox
    ) -> None:
        tables = {
            "ExtendedOffsetTable": struct.pack(f"<{len(offsets)}Q", *offsets),
            "ExtendedOffsetTableLengths": struct.pack(f"<{len(lengths)}Q", *lengths),
        }
        size = {"Rows": 64, "Columns": 64, "NumberOfFrames": 3, **EIGHT}
        instance = read(make_dicom(encapsulate(self.encoded()), JPEG2000Lossless, **size, **tables))
        with pytest.raises(InputError, match="frame 2 .*damaged or missing|damaged or incomplete|memory"):
            sandbox.frame(instance, 2)

    def test_fewer_frames_than_stated(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        value = encapsulate(self.encoded(), has_bot=True)
        instance = read(make_dicom(value, JPEG2000Lossless, Rows=64, Columns=64, NumberOfFrames=5, **EIGHT))
        with pytest.raises(InputError, match="frame 5 of its Pixel Data"):
            sandbox.frame(instance, 5, False)

    def test_frame_of_another_size(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        value = encapsulate([encode_array(np.zeros((64, 64), np.uint8), photometric_interpretation=2)])
        instance = read(make_dicom(value, JPEG2000Lossless, Rows=16, Columns=16, **EIGHT))
        with pytest.raises(InputError, match="its compressed frame has 64 x 64 px"):
            sandbox.frame(instance, 1, True)

    def test_colour_comes_as_rgb(self, make_dicom: Build, encode: Build, read: Read, sandbox: Sandbox) -> None:
        rows, columns = np.mgrid[:32, :40]
        pixels = np.stack([3 * rows, 4 * columns, 128 + 0 * rows], axis=2).astype(np.uint8)
        value = encapsulate([encode(pixels, "JPEG", quality=95), encode(255 - pixels, "JPEG", quality=95)])
        header = {**COLOUR, "PhotometricInterpretation": "YBR_FULL_422", "Rows": 32, "Columns": 40, "NumberOfFrames": 2}
        instance = read(make_dicom(value, JPEGBaseline8Bit, **header))
        for number, expected in ((1, pixels), (2, 255 - pixels)):
            raw = np.frombuffer(sandbox.frame(instance, number)[0], np.uint8).reshape(32, 40, 3)
            assert np.abs(raw.astype(int) - expected).mean() < 2
            assert np.abs(sandbox.rendered(instance, number).astype(int) - expected).mean() < 2

    def test_every_syntax_we_have_against_pydicom(self, data: Path, sandbox: Sandbox) -> None:
        """Stored: the fragments of the file. Decoded: what `hounsfield` decodes, which other tests compare with peers."""
        seen = set()
        for path in files(data):
            try:
                [instance] = sandbox.inspect([path])
            except InputError:
                continue
            if not instance.has_pixels:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds = pydicom.dcmread(path)
            seen.add(instance.transfer_syntax_uid)
            stored, syntax = sandbox.frame(instance, 1, False)
            if ds.file_meta.TransferSyntaxUID.is_encapsulated:
                frames = generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames", 1)))
                assert (bytes(stored), syntax) == (next(frames), instance.transfer_syntax_uid)
            raw, syntax = sandbox.frame(instance, 1, True)
            assert syntax == ExplicitVRLittleEndian
            if instance.photometric.startswith("MONO") and instance.frames == 1:
                dtype = f"<{'i' if ds.PixelRepresentation else 'u'}{ds.BitsAllocated // 8}"
                values = np.frombuffer(raw, dtype).reshape(ds.Rows, ds.Columns).astype(np.float32)
                slope, intercept = instance.rescale or (1, 0)
                np.testing.assert_array_equal(
                    values * np.float32(slope) + np.float32(intercept), sandbox.hounsfield(instance)
                )
        assert len(seen) >= 15


class TestTranscoding:
    def written(self, sandbox: Sandbox, instance: Instance, tmp_path: Path) -> tuple[pydicom.Dataset, Path]:
        target = tmp_path / "transcoded"
        target.unlink(missing_ok=True)
        sandbox.transcode(instance, target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(target), target

    def test_every_syntax_we_have(self, data: Path, sandbox: Sandbox, tmp_path: Path) -> None:
        """The same elements and the same Hounsfield units; DCMTK reads every one."""
        for path in files(data):
            [instance] = sandbox.inspect([path])
            found, target = self.written(sandbox, instance, tmp_path)
            assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            [again] = sandbox.inspect([target])
            assert (again.sop_instance_uid, again.frames, again.attributes) == (
                instance.sop_instance_uid,
                instance.frames,
                instance.attributes,
            )
            before, after = sandbox.metadata(instance), sandbox.metadata(again)
            for model in (before, after):
                for key in ("7FE00010", "00280004", "00280006", "FFFCFFFC"):
                    model.pop(key, None)
            assert after == before, path.name
            if instance.has_pixels and instance.photometric.startswith("MONO") and instance.frames == 1:
                np.testing.assert_array_equal(sandbox.hounsfield(again), sandbox.hounsfield(instance))
            dump = subprocess.run(["/usr/bin/dcmdump", str(target)], capture_output=True, text=True, errors="replace")
            assert dump.returncode == 0 and "E: " not in dump.stderr, dump.stderr

    def test_big_endian_words_in_sequences(
        self, make_dicom: Build, read: Read, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        table = np.arange(300, dtype=">u2")
        lut = pydicom.Dataset()
        lut.add_new(0x00283002, "US", [300, 0, 16])
        lut.add_new(0x00283006, "OW", table.tobytes())
        data = make_dicom(VOLUME[0].astype(">i2").tobytes(), ExplicitVRBigEndian, VOILUTSequence=[lut])
        found, _ = self.written(sandbox, read(data), tmp_path)
        assert found.VOILUTSequence[0].LUTData == table.astype("<u2").tobytes()
        assert found.PixelData == VOLUME[0].tobytes()

    def test_colour_and_several_frames(
        self, make_dicom: Build, encode: Build, read: Read, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        pixels = np.full((15, 17, 3), (200, 90, 30), np.uint8)
        value = encapsulate([encode(part, "JPEG", quality=95) for part in (pixels, 255 - pixels, pixels)])
        header = {**COLOUR, "PhotometricInterpretation": "YBR_FULL_422", "Rows": 15, "Columns": 17, "NumberOfFrames": 3}
        found, _ = self.written(sandbox, read(make_dicom(value, JPEGBaseline8Bit, **header)), tmp_path)
        assert (found.PhotometricInterpretation, found.PlanarConfiguration) == ("RGB", 0)
        assert len(found.PixelData) == 15 * 17 * 3 * 3 + 1
        np.testing.assert_allclose(found.pixel_array[1].astype(int), (255 - pixels).astype(int), atol=4)

    def test_bits_and_no_pixels(self, make_dicom: Build, read: Read, sandbox: Sandbox, tmp_path: Path) -> None:
        masks = np.random.default_rng(2).integers(0, 2, (5, 5, 3)).astype(np.uint8)
        raw = np.packbits(masks.ravel(), bitorder="little").tobytes()
        for syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
            data = make_dicom(raw, syntax, Rows=5, Columns=3, NumberOfFrames=5, **ONE_BIT)
            found, _ = self.written(sandbox, read(data), tmp_path)
            np.testing.assert_array_equal(found.pixel_array, masks)
        found, _ = self.written(sandbox, read(make_dicom(None, ImplicitVRLittleEndian)), tmp_path)
        assert "PixelData" not in found and found.PatientID == "somebody"

    def test_nothing_is_left_of_a_failure(
        self, make_dicom: Build, read: Read, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        good = encode_array(np.zeros((64, 64), np.uint8), photometric_interpretation=2)
        value = encapsulate([good, b"\xff\x4f\xff\x51 no code stream"])
        instance = read(make_dicom(value, JPEG2000Lossless, Rows=64, Columns=64, NumberOfFrames=2, **EIGHT))
        with pytest.raises(InputError):
            sandbox.transcode(instance, tmp_path / "target")
        assert not (tmp_path / "target").exists()

    def test_bomb_is_refused_by_arithmetic(self, make_dicom: Build, put: Any, tmp_path: Path) -> None:
        """A thousand references to one small frame would become 256 MB."""
        frame = encode_array(np.zeros((512, 512), np.uint8), photometric_interpretation=2)
        data = make_dicom(
            encapsulate([frame] * 1000), JPEG2000Lossless, Rows=512, Columns=512, NumberOfFrames=1000, **EIGHT
        )
        with Sandbox(tmp_path / "spool", Limits(file_bytes=100 << 20), workers=1) as sandbox:
            [instance] = sandbox.inspect([put(data)])
            with pytest.raises(TooLarge, match="uncompressed it has 262144000 bytes"):
                sandbox.transcode(instance, tmp_path / "target")
            assert not (tmp_path / "target").exists()

    def test_syntax_that_is_not_read(self, make_dicom: Build, put: Any, sandbox: Sandbox) -> None:
        with pytest.raises(UnknownMedia, match="MPEG2"):
            sandbox.inspect([put(make_dicom(encapsulate([b"\0\0\1\xb3" * 20]), "1.2.840.10008.1.2.4.100", **EIGHT))])


class TestPictures:
    VALUES = np.array([[-1000, -400, 0, 40, 400, 1000]], np.int16)

    def shown(self, sandbox: Sandbox, read: Read, make_dicom: Build, window: Any = None, **header: Any) -> list[int]:
        rescale = {"RescaleSlope": 1, "RescaleIntercept": 0}
        return sandbox.rendered(read(make_dicom(self.VALUES, **{**rescale, **header})), 1, window)[0].tolist()

    def by_hand(self, center: float, width: float) -> list[int]:
        """PS3.3 C.11.2.1.2.1, as it is written there."""
        found = []
        for x in self.VALUES[0].tolist():
            if x <= center - 0.5 - (width - 1) / 2:
                y = 0.0
            elif x > center - 0.5 + (width - 1) / 2:
                y = 255.0
            else:
                y = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
            found.append(round(y))
        return found

    def test_window_of_the_request_goes_first(self, sandbox: Sandbox, read: Read, make_dicom: Build) -> None:
        found = self.shown(sandbox, read, make_dicom, (-600, 1500), WindowCenter=40, WindowWidth=400)
        assert found == self.by_hand(-600, 1500)

    def test_first_window_of_the_header(self, sandbox: Sandbox, read: Read, make_dicom: Build) -> None:
        found = self.shown(sandbox, read, make_dicom, WindowCenter=[40, -600], WindowWidth=[400, 1500])
        assert found == self.by_hand(40, 400)

    def test_lowest_to_highest(self, sandbox: Sandbox, read: Read, make_dicom: Build) -> None:
        expected = [round((x + 1000) / 2000 * 255) for x in self.VALUES[0].tolist()]
        assert self.shown(sandbox, read, make_dicom) == expected
        assert self.shown(sandbox, read, make_dicom, WindowCenter=40, WindowWidth=0) == expected

    def test_flat_image(self, sandbox: Sandbox, read: Read, make_dicom: Build) -> None:
        assert not sandbox.rendered(read(make_dicom(np.full((4, 4), 7, np.int16)))).any()

    def test_rescale_and_inversion(self, sandbox: Sandbox, read: Read, make_dicom: Build) -> None:
        window = {"WindowCenter": 140, "WindowWidth": 800}
        found = self.shown(sandbox, read, make_dicom, RescaleSlope=2, RescaleIntercept=60, **window)
        assert found == self.by_hand(40 - 0.25, 400.5)  # (140 - 60) / 2, the half pixel of the formula scaled too
        inverted = self.shown(sandbox, read, make_dicom, PhotometricInterpretation="MONOCHROME1", **window)
        assert inverted == [255 - value for value in self.by_hand(140, 800)]

    def test_functions(self, sandbox: Sandbox, read: Read, make_dicom: Build) -> None:
        header = {"WindowCenter": 40, "WindowWidth": 400}
        exact = self.shown(sandbox, read, make_dicom, VOILUTFunction="LINEAR_EXACT", **header)
        assert exact == [0, 0, 102, 128, 255, 255]  # (0 - 40) / 400 + 0.5 = 0.4
        sigmoid = self.shown(sandbox, read, make_dicom, VOILUTFunction="SIGMOID", **header)
        assert sigmoid == [round(255 / (1 + np.exp(-4 * (x - 40) / 400))) for x in self.VALUES[0].tolist()]

    def test_real_slice_against_dcmtk(self, data: Path, sandbox: Sandbox, tmp_path: Path) -> None:
        [instance] = sandbox.inspect([data / "dicom" / "transfer_syntaxes" / "CT_original.dcm"])
        picture = tmp_path / "picture.pgm"
        subprocess.run(["/usr/bin/dcm2pnm", "+Ww", "40", "400", str(instance.path), str(picture)], check=True)
        from PIL import Image

        peer = np.asarray(Image.open(picture)).astype(int)
        assert np.abs(sandbox.rendered(instance, 1, (40, 400)).astype(int) - peer).max() <= 1

    def test_thumbnail(self, data: Path, sandbox: Sandbox) -> None:
        [instance] = sandbox.inspect([data / "dicom" / "transfer_syntaxes" / "CT_original.dcm"])
        whole, small = sandbox.rendered(instance), sandbox.rendered(instance, longest_px=128)
        assert (whole.shape, small.shape) == ((512, 512), (128, 128))
        blocks = whole.reshape(128, 4, 128, 4).mean(axis=(1, 3))
        assert np.abs(small.astype(float) - blocks).max() <= 1

    def test_every_file_we_have_can_be_shown(self, data: Path, sandbox: Sandbox) -> None:
        for path in files(data):
            [instance] = sandbox.inspect([path])
            if instance.has_pixels:
                for number in range(1, instance.frames + 1):
                    shown = sandbox.rendered(instance, number)
                    assert shown.shape[:2] == (instance.rows, instance.columns)
                    assert shown.std() > 5

    def test_rle_frames(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        volume = np.repeat(np.arange(0, 96, 2, dtype=np.uint8).reshape(1, 6, 8), 2, axis=0)
        volume[1] += 100
        ds = pydicom.dcmread(io.BytesIO(multi(make_dicom, volume, **EIGHT)))
        ds.compress(RLELossless, generate_instance_uid=False)
        stream = io.BytesIO()
        ds.save_as(stream, enforce_file_format=True)
        instance = read(stream.getvalue())
        for number in (1, 2):
            assert bytes(sandbox.frame(instance, number)[0]) == volume[number - 1].tobytes()


class TestSame:
    """Two files under one UID: the same instance however it travelled, or another one."""

    STORED = np.random.default_rng(5).integers(0, 4000, (6, 8)).astype("<u2")

    @pytest.mark.parametrize("syntax", NATIVE[1:])
    def test_the_encoding_does_not_matter(self, syntax: Any, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        stored = self.STORED.astype(">u2") if syntax == ExplicitVRBigEndian else self.STORED
        one = read(make_dicom(self.STORED, PixelRepresentation=0))
        assert sandbox.same(one, read(make_dicom(stored, syntax, PixelRepresentation=0)))

    def test_pixels_and_elements_do(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        one = read(make_dicom(self.STORED, PixelRepresentation=0))
        changed = self.STORED.copy()
        changed[3, 3] += 1
        assert not sandbox.same(one, read(make_dicom(changed, PixelRepresentation=0)))
        assert not sandbox.same(one, read(make_dicom(self.STORED, PixelRepresentation=0, PatientName="Other^Name")))
        assert not sandbox.same(one, read(make_dicom(self.STORED[None].repeat(2, 0).tobytes(), Rows=6, Columns=8,
                                                     NumberOfFrames=2, PixelRepresentation=0)))  # fmt: skip

    def test_what_cannot_be_decoded_is_not_the_same(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        broken = make_dicom(encapsulate([b"\xff\xd8broken"]), JPEGBaseline8Bit, Rows=8, Columns=8, **EIGHT)
        assert not sandbox.same(read(broken), read(broken))
