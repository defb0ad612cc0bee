"""Decoded values against values worked out by hand, and against other readers."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from service.errors import InputError, OutOfContract
from service.intake.sandbox import Sandbox
from service.records import Instance

Build = Callable[..., bytes]
Read = Callable[[bytes], Instance]

EIGHT = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "Modality": "OP"}
COLOUR = {**EIGHT, "SamplesPerPixel": 3, "PlanarConfiguration": 0}
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A colour gradient, which lossy coding hardly changes; uint8, red grows to the right, blue downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 180 * x / width, 90 + 0 * x, 30 + 120 * y / height], axis=2).astype(np.uint8)


@pytest.fixture
def read(sandbox: Sandbox, put: Callable[[bytes], Path]) -> Read:
    return lambda data: sandbox.inspect([put(data)])[0]


@pytest.fixture(scope="module")
def folder(data: Path) -> Path:
    return data / "dicom" / "transfer_syntaxes"


@pytest.fixture(scope="module")
def original(folder: Path) -> np.ndarray:
    """The uncompressed slice in HU, read from the last bytes of its file."""
    stored = np.frombuffer((folder / "CT_original.dcm").read_bytes()[-512 * 512 * 2 :], "<i2")
    return stored.reshape(512, 512).astype(np.float32) - 1024


class TestSlices:
    STORED = np.arange(48, dtype=np.int16).reshape(6, 8) - 20

    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, "1.2.840.10008.1.2.1.99"])
    def test_rescale(self, syntax: str, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        found = sandbox.hounsfield(read(make_dicom(self.STORED, syntax)))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, 2.0 * self.STORED - 1000)

    def test_big_endian(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        found = sandbox.hounsfield(read(make_dicom(self.STORED.astype(">i2"), ExplicitVRBigEndian)))
        np.testing.assert_array_equal(found, 2.0 * self.STORED - 1000)

    def test_without_rescale_the_stored_values(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        instance = read(make_dicom(self.STORED, RescaleSlope=None, RescaleIntercept=None))
        assert instance.rescale is None
        np.testing.assert_array_equal(sandbox.hounsfield(instance), self.STORED)

    def test_unused_high_bits_are_not_part_of_the_value(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        """Old scanners kept overlays in bits 12..15 (PS3.5 8.1.2): 0xF005 with 12 bits is 5, 0x5FFE signed is -2."""
        stored = np.array([[0xF005, 0x0FFE], [0x5FFE, 0x07FF]], np.uint16)
        signed = sandbox.hounsfield(read(make_dicom(stored, BitsStored=12, HighBit=11)))
        np.testing.assert_array_equal(signed, 2 * np.array([[5, -2], [-2, 2047]]) - 1000)
        unsigned = sandbox.hounsfield(read(make_dicom(stored, BitsStored=12, HighBit=11, PixelRepresentation=0)))
        np.testing.assert_array_equal(unsigned, 2 * np.array([[5, 4094], [4094, 2047]]) - 1000)

    def test_header_without_preamble(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        data = make_dicom(self.STORED)
        assert sandbox.hounsfield(read(data[132:])).shape == (6, 8)
        bare = data[data.index(b"\x08\0\x16\0UI") :]
        instance = read(bare)
        assert instance.transfer_syntax_uid == "1.2.840.10008.1.2.1"
        np.testing.assert_array_equal(sandbox.hounsfield(instance), 2.0 * self.STORED - 1000)

    def test_header_fields(self, make_dicom: Build, read: Read) -> None:
        found = read(make_dicom(self.STORED, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]))
        assert (found.rows, found.columns, found.frames, found.samples, found.bits) == (6, 8, 1, 1, 16)
        assert (found.pixel_spacing, found.slice_thickness, found.rescale) == ((0.7, 0.8), 2.0, (2.0, -1000.0))
        assert (found.position, found.orientation) == ((-10, -20, 30), (1, 0, 0, 0, 1, 0))
        assert (found.study_uid, found.series_uid, found.frame_of_reference_uid) == ("2.25.2", "2.25.3", "2.25.4")
        assert (found.modality, found.photometric, found.instance_number) == ("CT", "MONOCHROME2", 1)
        assert (found.image_type, found.has_pixels, found.media) == (("ORIGINAL", "PRIMARY", "AXIAL"), True, "dicom")


class TestTransferSyntaxes:
    """One CT slice in 15 transfer syntaxes against its uncompressed original, read from the file's last bytes."""

    @pytest.mark.parametrize(
        ("name", "error_hu"),
        [("BigEndian", 0), ("Deflated", 0), ("LittleEndianExplicit", 0), ("LittleEndianImplicit", 0), ("RLELossless", 0),
         ("JPEG2000LosslessOnly", 0), ("JPEGLSLossless", 0), ("JPEGProcess14SV1", 0), ("JPEGProcess14Transfer", 0),
         ("JPEG2000Transfer", 1.5), ("JPEGLSLossy", 1.5), ("JPEGProcess2_4", 5), ("JPEGProcess6_8", 5), ("JPEGProcess10_12", 5),
         ("JPEGProcess1Transfer", 25)],
    )  # fmt: skip
    def test_against_the_original(
        self, name: str, error_hu: float, folder: Path, original: np.ndarray, sandbox: Sandbox
    ) -> None:
        [file] = folder.glob(f"CT_{name}*")
        found = sandbox.hounsfield(sandbox.inspect([file])[0])
        assert found.dtype == np.float32
        assert np.abs(found - original).mean() <= error_hu

    @pytest.mark.parametrize("name", ["CT1_J2KR", "CT2_J2KR"])
    def test_against_simpleitk(self, name: str, folder: Path, sandbox: Sandbox) -> None:
        peer = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / name)))[0]
        np.testing.assert_array_equal(sandbox.hounsfield(sandbox.inspect([folder / name])[0]), peer)

    def test_htj2k_against_the_same_slice_in_jpeg_ls(self, data: Path, folder: Path, sandbox: Sandbox) -> None:
        instances = sandbox.inspect([folder / f"ct_lungfcp_htj2k_20{k}.dcm" for k in (1, 2, 3)])
        with zipfile.ZipFile(data / "dicom" / "ct_lungfcp_0001.zip") as series:
            slices = (pydicom.dcmread(io.BytesIO(series.read(name))) for name in series.namelist()[40:60])
            [peer] = [ds for ds in slices if float(ds.ImagePositionPatient[2]) == instances[0].position[2]]
        expected = peer.pixel_array.astype(np.float32) - 1024
        for instance, error_hu in zip(instances, (0, 0, 8), strict=True):
            assert np.abs(sandbox.hounsfield(instance) - expected).max() <= error_hu

    def test_what_cannot_be_answered_says_why(self, folder: Path, sandbox: Sandbox) -> None:
        names = ["no-pixel-data.dcm", "no-pixel-spacing.dcm", "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm"]
        for name, text in zip(names, ["no Pixel Data", "colour", "2 frames"], strict=True):
            [instance] = sandbox.inspect([folder / name])
            with pytest.raises(OutOfContract, match=text):
                sandbox.hounsfield(instance)


class TestDicomPhotographs:
    def pixels(self, sandbox: Sandbox, instance: Instance) -> np.ndarray:
        found = sandbox.photograph(instance)
        assert found.dtype == np.uint8
        return found

    def test_rgb_by_pixel_and_by_plane(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        by_pixel = read(make_dicom(PHOTOGRAPH, PhotometricInterpretation="RGB", **COLOUR))
        assert (by_pixel.samples, by_pixel.bits) == (3, 8)
        np.testing.assert_array_equal(self.pixels(sandbox, by_pixel), PHOTOGRAPH)
        planes = np.ascontiguousarray(PHOTOGRAPH.transpose(2, 0, 1)).tobytes()
        by_plane = make_dicom(
            planes, PhotometricInterpretation="RGB", Rows=6, Columns=10, **{**COLOUR, "PlanarConfiguration": 1}
        )
        np.testing.assert_array_equal(self.pixels(sandbox, read(by_plane)), PHOTOGRAPH)

    def test_multi_frame_with_one_frame(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        """Multi-frame True Color Secondary Capture, whose last bytes look like a line end (field.md, complaint 9)."""
        pixels = PHOTOGRAPH.copy()
        pixels[-1, -1] = 0x0D, 0x0D, 0x0A
        instance = read(
            make_dicom(
                pixels,
                PhotometricInterpretation="RGB",
                NumberOfFrames=1,
                SOPClassUID="1.2.840.10008.5.1.4.1.1.7.4",
                **COLOUR,
            )
        )
        np.testing.assert_array_equal(self.pixels(sandbox, instance), pixels)

    def test_sixteen_bits_are_scaled_down(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        deep = PHOTOGRAPH.astype(np.uint16) * 16 + 5
        data = make_dicom(
            deep, PhotometricInterpretation="RGB", **{**COLOUR, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
        )
        np.testing.assert_array_equal(self.pixels(sandbox, read(data)), PHOTOGRAPH)

    def test_ybr_full(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        """PS3.3 C.7.6.3.1.2: pure red is Y 76, Cb 85, Cr 255; grey has Cb = Cr = 128."""
        ybr = np.array([[[76, 85, 255], [100, 128, 128]]], np.uint8)
        found = self.pixels(sandbox, read(make_dicom(ybr, PhotometricInterpretation="YBR_FULL", **COLOUR)))
        np.testing.assert_allclose(found.astype(int), [[[255, 0, 0], [100, 100, 100]]], atol=2)

    def test_ybr_full_422(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        """Two pixels share Cb and Cr: stored as Y1 Y2 Cb Cr."""
        data = make_dicom(
            bytes([76, 76, 85, 255, 90, 200, 128, 128]),
            PhotometricInterpretation="YBR_FULL_422",
            Rows=1,
            Columns=4,
            **COLOUR,
        )
        expected = [[[255, 0, 0], [255, 0, 0], [90, 90, 90], [200, 200, 200]]]
        np.testing.assert_allclose(self.pixels(sandbox, read(data)).astype(int), expected, atol=2)

    def test_palette(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        index = np.array([[0, 1], [2, 3]], np.uint8)
        table = {"Red": [0, 10, 20, 250], "Green": [5, 15, 25, 35], "Blue": [1, 2, 3, 4]}
        palette: dict[str, Any] = {}
        for colour, values in table.items():
            palette[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
            palette[f"{colour}PaletteColorLookupTableData"] = (np.array(values, "<u2") * 256 + 7).tobytes()
        data = make_dicom(index, PhotometricInterpretation="PALETTE COLOR", **EIGHT, **palette)
        np.testing.assert_array_equal(
            self.pixels(sandbox, read(data)), np.stack([np.array(v)[index] for v in table.values()], axis=2)
        )
        broken = make_dicom(index, PhotometricInterpretation="PALETTE COLOR", **EIGHT)
        with pytest.raises(Exception, match="palette"):
            self.pixels(sandbox, read(broken))

    @pytest.mark.parametrize(("kind", "expected"), [("MONOCHROME2", [0, 64, 255]), ("MONOCHROME1", [255, 191, 0])])
    def test_grey(self, kind: str, expected: list[int], make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        data = make_dicom(np.array([[0, 64, 255]], np.uint8), PhotometricInterpretation=kind, **EIGHT)
        np.testing.assert_array_equal(
            self.pixels(sandbox, read(data)), np.repeat(np.array(expected)[None, :, None], 3, axis=2)
        )

    def test_jpeg_2000_with_colour_transform(self, make_dicom: Build, read: Read, sandbox: Sandbox) -> None:
        pixels = np.kron(PHOTOGRAPH, np.ones((8, 8, 1), np.uint8))
        frame = encode_array(pixels, photometric_interpretation=1, use_mct=True)
        data = make_dicom(
            encapsulate([frame]), JPEG2000Lossless, PhotometricInterpretation="YBR_RCT", Rows=48, Columns=80, **COLOUR
        )
        np.testing.assert_array_equal(self.pixels(sandbox, read(data)), pixels)

    @pytest.mark.parametrize("photometric", ["YBR_FULL_422", "RGB"])
    def test_jpeg_with_colour_markers(
        self, photometric: str, make_dicom: Build, encode: Build, read: Read, sandbox: Sandbox
    ) -> None:
        """Pillow writes JFIF, so the stream is YCbCr whatever the header claims."""
        pixels = smooth(64, 80)
        frame, header = (
            encode(pixels, "JPEG", quality=95),
            {"PhotometricInterpretation": photometric, "Rows": 64, "Columns": 80},
        )
        data = make_dicom(encapsulate([frame]), JPEGBaseline8Bit, **header, **COLOUR)
        assert np.abs(self.pixels(sandbox, read(data)).astype(int) - pixels).mean() < 2

    def test_jpeg_without_colour_markers_is_what_the_header_says(
        self, make_dicom: Build, encode: Build, read: Read, sandbox: Sandbox
    ) -> None:
        pixels = smooth(64, 80)
        coded = encode(pixels, "JPEG", quality=95)
        assert coded[2:4] == b"\xff\xe0"
        bare = coded[:2] + coded[4 + int.from_bytes(coded[4:6], "big") :]
        common = {"Rows": 64, "Columns": 80, **COLOUR}
        ybr = self.pixels(
            sandbox,
            read(make_dicom(encapsulate([bare]), JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422", **common)),
        )
        assert np.abs(ybr.astype(int) - pixels).mean() < 2
        as_stored = np.asarray(Image.fromarray(pixels).convert("YCbCr")).astype(int)
        rgb = self.pixels(
            sandbox, read(make_dicom(encapsulate([bare]), JPEGBaseline8Bit, PhotometricInterpretation="RGB", **common))
        )
        assert np.abs(rgb.astype(int) - as_stored).mean() < 2


class TestPhotographs:
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_lossless_formats_are_exact(self, kind: str, encode: Build, read: Read, sandbox: Sandbox) -> None:
        instance = read(encode(PHOTOGRAPH, kind))
        assert (instance.media, instance.rows, instance.columns, instance.samples, instance.series_uid) == (
            "photograph",
            6,
            10,
            3,
            "",
        )
        np.testing.assert_array_equal(sandbox.photograph(instance), PHOTOGRAPH)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
    def test_exif_orientation(self, orientation: int, kind: str, encode: Build, read: Read, sandbox: Sandbox) -> None:
        """CIPA DC-008 4.6.4: where row 0 and column 0 of the stored image are seen."""
        upright = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
                   5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[:, ::-1],
                   7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: a.swapaxes(0, 1)[::-1]}[orientation]  # fmt: skip
        pixels = np.kron(
            np.array([[[250, 0, 0], [0, 250, 0], [0, 0, 250]], [[250, 250, 0], [0, 0, 0], [250, 250, 250]]]),
            np.ones((16, 16, 1)),
        )
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif.tobytes()}
        data = encode(
            pixels.astype(np.uint8), kind, **(options | ({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
        )
        instance = read(data)
        expected = upright(pixels)
        assert (instance.rows, instance.columns) == expected.shape[:2]
        np.testing.assert_allclose(sandbox.photograph(instance).astype(int), expected, atol=12)

    def test_scaled_down_and_at_the_right_place(self, encode: Build, read: Read, sandbox: Sandbox) -> None:
        """A white bar at 70..80 % of the width stays there, for every way a photograph is made small."""
        pixels = np.zeros((600, 1010, 3), np.uint8)
        pixels[:, 707:808] = 255
        for kind in ("PNG", "JPEG"):
            for longest in (1010, 500, 333, 100):
                found = sandbox.photograph(read(encode(pixels, kind)), longest)
                assert max(found.shape[:2]) == longest
                profile = found[:, :, 1].mean(axis=0) / 255
                centre = (profile * (np.arange(longest) + 0.5)).sum() / profile.sum() / longest
                assert abs(centre - 0.75) < 0.003
                assert abs(profile.sum() / longest - 0.1) < 0.003

    def test_other_pixel_kinds(self, read: Read, sandbox: Sandbox) -> None:
        colour = (200, 90, 30)
        for mode, kind in (("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "TIFF"), ("CMYK", "JPEG"), ("YCbCr", "TIFF")):
            stream = io.BytesIO()
            Image.new("RGB", (40, 30), colour).convert(mode).save(stream, kind)
            instance = read(stream.getvalue())
            assert instance.samples == 3
            np.testing.assert_allclose(sandbox.photograph(instance).reshape(-1, 3).mean(axis=0), colour, atol=8)

    def test_sixteen_bit_colour(self, read: Read, sandbox: Sandbox) -> None:
        rows = b"".join(b"\0" + struct.pack(">12H", *[k * 256 + 9 for k in range(row, row + 12)]) for row in (10, 100))
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ]
        data = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
        found = sandbox.photograph(read(b"\x89PNG\r\n\x1a\n" + data))
        np.testing.assert_array_equal(found.reshape(2, 12), [np.arange(10, 22), np.arange(100, 112)])

    def test_big_tiff(self, encode: Build, read: Read, sandbox: Sandbox) -> None:
        data = encode(PHOTOGRAPH, "TIFF", big_tiff=True)
        assert data[2:4] == b"\x2b\0"
        np.testing.assert_array_equal(sandbox.photograph(read(data)), PHOTOGRAPH)

    def test_real_photograph(self, data: Path, sandbox: Sandbox) -> None:
        file = data / "idrid" / "original" / "IDRiD_003.jpg"
        [instance] = sandbox.inspect([file])
        assert (instance.rows, instance.columns) == (2848, 4288)
        found = sandbox.photograph(instance, 1024)
        peer = np.asarray(Image.open(file).resize((1024, 680), Image.Resampling.LANCZOS)).astype(int)
        assert found.shape == peer.shape
        assert np.abs(found - peer).mean() < 1.5

    def test_same_bytes_same_uid(self, encode: Build, read: Read) -> None:
        one, two, other = (
            read(encode(PHOTOGRAPH, "PNG")),
            read(encode(PHOTOGRAPH, "PNG")),
            read(encode(255 - PHOTOGRAPH, "PNG")),
        )
        assert one.sop_instance_uid == two.sop_instance_uid != other.sop_instance_uid
        assert one.sop_instance_uid.startswith("2.25.")


class TestGrey:
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_exact(self, kind: str, dtype: type, encode: Build, read: Read, sandbox: Sandbox) -> None:
        pixels = np.random.default_rng(5).integers(0, np.iinfo(dtype).max, (96, 100)).astype(dtype)
        instance = read(encode(pixels, kind))
        assert (instance.samples, instance.bits) == (1, 8 * np.dtype(dtype).itemsize)
        found = sandbox.grey(instance)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, pixels)

    def test_colour_is_out_of_contract(self, encode: Build, read: Read, sandbox: Sandbox) -> None:
        with pytest.raises(OutOfContract, match="grey image"):
            sandbox.grey(read(encode(PHOTOGRAPH, "PNG")))

    def test_wrong_kind_of_file(self, make_dicom: Build, encode: Build, read: Read, sandbox: Sandbox) -> None:
        with pytest.raises(OutOfContract, match="other kind"):
            sandbox.hounsfield(read(encode(PHOTOGRAPH, "PNG")))
        with pytest.raises(OutOfContract, match="other kind"):
            sandbox.grey(read(make_dicom()))


def test_slices_come_in_order_and_are_read_ahead(put: Any, make_dicom: Any, sandbox: Any) -> None:
    stored = [np.full((8, 8), number, np.int16) for number in range(11)]
    instances = sandbox.inspect([put(make_dicom(pixels)) for pixels in stored])
    for count in (0, 1, 3, 11):
        found = list(sandbox.slices(instances[:count]))
        assert [float(one.mean()) for one in found] == [float(sandbox.hounsfield(i).mean()) for i in instances[:count]]
    reading = sandbox.slices(instances)
    next(reading)
    reading.close()
    assert sandbox.hounsfield(instances[-1]).shape == (8, 8), "whoever stops early leaves nothing hanging"


def test_a_slice_that_cannot_be_read_is_an_error_at_its_place(put: Any, make_dicom: Any, sandbox: Any) -> None:
    instances = sandbox.inspect([put(make_dicom(np.full((8, 8), number, np.int16))) for number in range(4)])
    instances[2].path.write_bytes(b"gone")
    reading = sandbox.slices(instances)
    next(reading), next(reading)
    with pytest.raises(InputError):
        next(reading)
