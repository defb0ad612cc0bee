"""Files made to hurt, and files that arrived broken: each ends in a clear error, soon, and the child lives on."""

from __future__ import annotations

import contextlib
import re
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from service.errors import InputError, OutOfContract, TooLarge, UnknownMedia
from service.intake.sandbox import Limits, Sandbox

Build = Callable[..., bytes]
Check = Callable[[bytes, type[InputError], str], None]

COLOUR = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8, "BitsStored": 8,
          "HighBit": 7, "PixelRepresentation": 0}  # fmt: skip


def decode(sandbox: Sandbox, path: Path) -> np.ndarray:
    [instance] = sandbox.inspect([path])
    return sandbox.hounsfield(instance) if instance.modality == "CT" else sandbox.photograph(instance)


@pytest.fixture
def refused(sandbox: Sandbox, put: Callable[[bytes], Path]) -> Check:
    """Checks that bytes are refused, at the header or at the pixels, with this class and this text, soon."""

    def check(data: bytes, kind: type[InputError], text: str) -> None:
        path, start = put(data), time.monotonic()
        with pytest.raises(InputError) as caught:
            decode(sandbox, path)
        error = caught.value
        assert type(error) is kind, error.detail
        assert re.search(text, error.detail), error.detail
        assert error.detail.startswith(("file 1 of 1: ", "instance "))
        assert str(path) not in error.detail
        assert "somebody" not in error.detail
        assert time.monotonic() - start < 30

    return check


def tiff(*tags: tuple[int, int, int, int], order: str = "<") -> bytes:
    """A classic TIFF that is nothing but its directory of (tag, type, count, value)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    return (
        head
        + struct.pack(order + "H", len(tags))
        + b"".join(struct.pack(order + "HHLL", *tag) for tag in tags)
        + bytes(4)
    )


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (b"", InputError, "empty"),
        (b"hello", UnknownMedia, "neither"),
        (b"%PDF-1.7" + bytes(200), UnknownMedia, "neither"),
        (b"GIF89a" + bytes(200), UnknownMedia, "neither"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), InputError, "header chunk"),
        (b"PK\x03\x04" + bytes(40), InputError, "ZIP among other files"),
        (bytes(128) + b"DICM", InputError, "incomplete"),
        (b"\xff\xd8\xff\xe0", InputError, "incomplete"),
        (b"\xff\xd8\xff\xd9", InputError, "incomplete"),
        (b"\xff\xd8\xff\xe0" + b"\xff" * 500, InputError, "incomplete|damaged"),
        (b"\xff\xd8" + (b"\xff\xe1\xff\xff" + bytes(65533)) * 300, TooLarge, "before its image"),
        (tiff((256, 4, 1, 9))[:12], InputError, "incomplete"),
        (tiff((256, 4, 1, 60000), (257, 4, 1, 60000)), TooLarge, "60000 x 60000"),
        (tiff((256, 4, 1, 60000), (257, 4, 1, 60000), order=">"), TooLarge, "60000 x 60000"),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9), (700, 7, 0xFFFFFFF0, 8)), TooLarge, "tags hold"),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9), (273, 4, 1000, 8)), InputError, "tag 273 lies outside"),
        (tiff(*[(700 + k, 7, 1 << 20, 8) for k in range(20)]) + bytes(1 << 20), TooLarge, "tags hold"),
        (tiff((256, 4, 1, 0), (257, 4, 1, 9)), InputError, "0 x 9"),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9), (259, 3, 1, 34712)), UnknownMedia, "method 34712"),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9), (277, 3, 1, 500)), UnknownMedia, "500 samples"),
        (tiff((256, 4, 1, 7000), (257, 4, 1, 8000), (259, 3, 1, 5), (277, 3, 1, 3)), TooLarge, "large strips"),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9)), InputError, "damaged"),
        (b"II*\0" + b"\xff" * 100, InputError, "outside"),
        (b"II+\0\x08\0\0\0" + bytes(8), InputError, "outside"),
    ],
)  # fmt: skip
def test_broken_photographs_and_other_files(data: bytes, kind: type[InputError], text: str, refused: Check) -> None:
    refused(data, kind, text)


class TestPng:
    def test_size_is_refused_before_decoding(self, make_png: Build, refused: Check) -> None:
        refused(make_png(60000, 60000), TooLarge, "60000 x 60000 px; at most 64000000")

    def test_huge_ancillary_chunk(self, make_png: Build, refused: Check) -> None:
        refused(make_png(10, 10, (b"teXt", bytes(20 << 20))), TooLarge, "besides its image")

    def test_many_chunks(self, make_png: Build, refused: Check) -> None:
        refused(make_png(10, 10, *[(b"tEXt", b"")] * 70_000), InputError, "chunks")

    def test_inflating_text_chunk(self, make_png: Build, refused: Check) -> None:
        bomb = b"comment\0\0" + zlib.compress(bytes(200 << 20), 1)
        refused(make_png(10, 10, (b"zTXt", bomb), data=bytes(10 * 31)), InputError, "damaged")

    def test_fewer_pixels_than_stated(self, make_png: Build, refused: Check) -> None:
        refused(make_png(1000, 1000), InputError, "incomplete")

    def test_cut_off(self, encode: Build, refused: Check) -> None:
        refused(encode(np.zeros((50, 50, 3), np.uint8), "PNG")[:-20], InputError, "incomplete")

    def test_animation(self, encode: Build, make_png: Build, refused: Check) -> None:
        refused(make_png(10, 10, (b"acTL", bytes(8)), data=bytes(310)), OutOfContract, "animation")


class TestJpeg:
    @pytest.fixture
    def honest(self, encode: Build) -> bytes:
        return encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), "JPEG")

    def states(self, data: bytes, width: int, height: int) -> bytes:
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]

    def test_size_is_refused_before_decoding(self, honest: bytes, refused: Check) -> None:
        refused(self.states(honest, 60000, 60000), TooLarge, "60000 x 60000")

    def test_more_pixels_than_the_data_can_hold(self, honest: bytes, refused: Check) -> None:
        refused(self.states(honest, 7000, 7000), InputError, "ends too early for that")

    def test_no_height(self, honest: bytes, refused: Check) -> None:
        refused(self.states(honest, 64, 0), InputError, "64 x 0")

    def test_cut_off(self, honest: bytes, refused: Check) -> None:
        refused(honest[: len(honest) * 2 // 3], InputError, "incomplete")

    def test_second_frame_header(self, honest: bytes, refused: Check) -> None:
        at = honest.index(b"\xff\xc0")
        segment = honest[at : at + 19]
        refused(honest[:at] + segment + honest[at:], UnknownMedia, "neither baseline")

    def test_lossless_process(self, honest: bytes, refused: Check) -> None:
        refused(honest.replace(b"\xff\xc0", b"\xff\xc3", 1), UnknownMedia, "neither baseline")

    def test_progressive_needs_all_its_coefficients_in_memory(self, encode: Build, refused: Check) -> None:
        data = encode(np.zeros((64, 64, 3), np.uint8), "JPEG", progressive=True, subsampling=0)
        at = data.index(b"\xff\xc2") + 5
        refused(data[:at] + struct.pack(">HH", 8000, 8000) + data[at + 4 :] + bytes(200_000), TooLarge, "progressive")


class TestDicomHeader:
    def test_deflated_bomb(self, refused: Check) -> None:
        """1 GB of zeros in 1 MB, in one element, as in shared/acceptance/check_http.py."""
        meta = b"".join(
            struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value
            for element, value in ((2, b"1.2.3\0"), (3, b"2.25.1"), (16, b"1.2.840.10008.1.2.1.99"))
        )
        deflate, block = zlib.compressobj(1, zlib.DEFLATED, -15), bytes(10_000_000)
        body = deflate.compress(struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 1_000_000_000))
        body += b"".join(deflate.compress(block) for _ in range(20)) + deflate.flush()
        refused(bytes(128) + b"DICM" + meta + body, TooLarge, "inflates to more than")

    def test_deflated_cut_off(self, make_dicom: Build, refused: Check) -> None:
        data = make_dicom(np.random.default_rng(0).integers(0, 99, (64, 64), np.int16), DeflatedExplicitVRLittleEndian)
        refused(data[:-500], InputError, "deflated data set ends too early")

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9, 0.99])
    def test_cut_off_anywhere(self, share: float, make_dicom: Build, refused: Check) -> None:
        data = make_dicom(np.zeros((30, 30), np.int16))
        refused(data[: int(len(data) * share)], InputError, "incomplete|no SOP Instance UID|no Pixel Data")

    def test_cut_off_inside_an_element_that_is_skipped(self, make_dicom: Build, refused: Check) -> None:
        data = make_dicom(AdditionalPatientHistory="x" * 2000)
        refused(data[: data.index(b"xxxx") + 1000], InputError, "middle of an element")

    def test_cut_off_inside_an_element_that_is_read(self, make_dicom: Build, refused: Check) -> None:
        data = make_dicom(PatientID="x" * 60)
        refused(data[: data.index(b"xxxx") + 30], InputError, "middle of an element")

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"SOPInstanceUID": None}, "no SOP Instance UID"),
            ({"SOPInstanceUID": "../../../etc/passwd"}, r"SOP Instance UID \(0008,0018\) is malformed"),
            ({"SOPInstanceUID": "1." * 40 + "1"}, "malformed"),
            ({"SeriesInstanceUID": "abc"}, r"\(0020,000E\) is malformed"),
            ({"ImagePositionPatient": [1, 2]}, "Image Position .* 3 finite"),
            ({"PixelSpacing": [0, 1]}, "Pixel Spacing .* not positive"),
            ({"Rows": 0}, "impossible"),
            ({"SamplesPerPixel": 7}, "impossible"),
            ({"NumberOfFrames": -4}, "impossible"),
        ],
    )
    def test_malformed_elements(self, changes: dict[str, Any], text: str, make_dicom: Build, refused: Check) -> None:
        refused(make_dicom(**changes), InputError, text)

    def test_words_in_place_of_numbers(self, make_dicom: Build, refused: Check) -> None:
        data = make_dicom(SliceThickness=2.125).replace(b"2.125 ", b"thick ")
        refused(data, InputError, r"Slice Thickness \(0018,0050\)")

    def test_huge_element_before_the_pixels_is_not_read(self, make_dicom: Build, refused: Check) -> None:
        data = make_dicom(PatientID="A" * 60)
        at = data.index(b"\x10\0\x20\0LO")
        refused(
            data[:at] + b"\x10\0\x20\0UN\0\0" + struct.pack("<L", 20 << 20) + bytes(20 << 20),
            TooLarge,
            "element of its DICOM header",
        )

    def test_deep_nesting(self, make_dicom: Build, refused: Check) -> None:
        """Sequences in sequences in ... until Python's stack would end."""
        data = make_dicom()
        at = data.index(b"\x08\0\x16\0UI")
        nested = b"\x08\0\x15\0SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 50_000
        refused(data[:at] + nested + data[at:], InputError, "damaged")

    def test_millions_of_empty_items_end_in_the_memory_limit(self, tmp_path: Path, put: Any, make_dicom: Build) -> None:
        data = make_dicom()
        at = data.index(b"\x08\0\x16\0UI")
        items = b"\x08\0\x15\0SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 150_000
        with (
            Sandbox(tmp_path / "spool", Limits(child_memory_bytes=95 << 20), workers=1) as small,
            pytest.raises(InputError, match=r"memory|longer"),
        ):
            small.inspect([put(data[:at] + items + data[at:])])


class TestDicomPixels:
    def test_fewer_bytes_than_the_header_states(self, make_dicom: Build, refused: Check) -> None:
        refused(make_dicom(Rows=4000, Columns=4000), InputError, "has 96 bytes where 32000000 are needed")

    def test_far_more_bytes_than_the_header_states(self, make_dicom: Build, refused: Check) -> None:
        refused(make_dicom(bytes(2 << 20), Rows=6, Columns=8), InputError, "where about 96 are needed")

    def test_size_is_refused_before_decoding(self, make_dicom: Build, refused: Check) -> None:
        refused(make_dicom(Rows=60000, Columns=60000), TooLarge, "60000 x 60000")
        refused(make_dicom(Rows=7000, Columns=7000, BitsAllocated=32, BitsStored=32, HighBit=31), TooLarge, "one frame")
        refused(make_dicom(Rows=4000, Columns=4000, NumberOfFrames=100_000), TooLarge, "100000 frames")

    def test_rle_bomb(self, make_dicom: Build, refused: Check) -> None:
        """25 MB of runs that would inflate to gigabytes: more than twice what the image can need is not even read."""
        frame = struct.pack("<16L", 2, 64, 64, *[0] * 13) + b"\x81\0" * (1 << 20)
        refused(
            make_dicom(encapsulate([frame]), RLELossless, Rows=512, Columns=512),
            InputError,
            "where about 524288 are needed",
        )
        frame = struct.pack("<16L", 2, 64, 64, *[0] * 13) + b"\x81\0" * (500 << 10)
        refused(
            make_dicom(encapsulate([frame]), RLELossless, Rows=512, Columns=512),
            InputError,
            r"RLE Lossless \(1.2.840.10008.1.2.5\)",
        )

    def test_rle_segment_longer_than_the_frame(self, make_dicom: Build, refused: Check) -> None:
        """The decoder, written in Rust, panics on it, which is no ordinary exception; the child must live on."""
        runs = b"\x81\0" * 40
        frame = struct.pack("<16L", 2, 64, 64 + len(runs), *[0] * 13) + 2 * runs
        refused(make_dicom(encapsulate([frame]), RLELossless, Rows=8, Columns=9), InputError, "damaged or incomplete")

    @pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLossless, JPEGLSLossless, JPEG2000Lossless])
    def test_no_codestream_in_the_frame(self, syntax: str, make_dicom: Build, refused: Check) -> None:
        refused(make_dicom(encapsulate([b"\xff\xd8nonsense" * 9]), syntax), InputError, "damaged")

    def test_frame_larger_than_the_header_states(self, make_dicom: Build, encode: Build, refused: Check) -> None:
        frame = encode(np.zeros((400, 400, 3), np.uint8), "JPEG")
        data = make_dicom(encapsulate([frame]), JPEGBaseline8Bit, Rows=8, Columns=8, Modality="OP", **COLOUR)
        refused(data, InputError, "compressed frame has 400 x 400 px, .* its header says 8 x 8 px")

    def test_frame_with_countless_tiles(self, make_dicom: Build, refused: Check) -> None:
        siz = b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">8LH", 4000, 4000, 0, 0, 1, 1, 0, 0, 1) + b"\x0f\1\1"
        refused(make_dicom(encapsulate([siz]), JPEG2000Lossless, Rows=4000, Columns=4000), InputError, "16000000 tiles")

    def test_fragment_beyond_the_end(self, make_dicom: Build, refused: Check) -> None:
        data = make_dicom(encapsulate([b"\xff\xd8" + bytes(100)]), JPEGBaseline8Bit)
        at = data.rindex(b"\xfe\xff\x00\xe0") + 4
        refused(data[:at] + struct.pack("<L", 1 << 30) + data[at + 4 :], InputError, "last fragment .* cut off")

    def test_no_end_of_fragments(self, make_dicom: Build, refused: Check) -> None:
        data = make_dicom(encapsulate([b"\xff\xd8" + bytes(100)]), JPEGBaseline8Bit)
        refused(data[:-8], InputError, "fragment .* missing")

    def test_native_pixels_under_a_compressed_syntax(self, make_dicom: Build, refused: Check) -> None:
        native = make_dicom()
        refused(
            native.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
            InputError,
            "not stored the way RLE Lossless",
        )

    def test_unknown_transfer_syntax_is_named(self, make_dicom: Build, refused: Check) -> None:
        video = make_dicom(encapsulate([bytes(10)]), "1.2.840.10008.1.2.4.102")
        refused(video, UnknownMedia, r"MPEG-4 AVC/H.264 High Profile / Level 4.1 \(1.2.840.10008.1.2.4.102\)")

    def test_no_pixels_matter_only_where_they_are_needed(self, make_dicom: Build, sandbox: Sandbox, put: Any) -> None:
        [instance] = sandbox.inspect([put(make_dicom(None))])
        assert not instance.has_pixels
        with pytest.raises(OutOfContract, match="no Pixel Data"):
            sandbox.hounsfield(instance)

    def test_several_frames_and_colour_are_out_of_contract(self, make_dicom: Build, refused: Check) -> None:
        refused(make_dicom(np.zeros((2, 48), np.int16), Rows=6, Columns=8, NumberOfFrames=2), OutOfContract, "2 frames")
        refused(make_dicom(np.zeros((6, 8, 3), np.uint8), **COLOUR), OutOfContract, "colour")

    def test_random_damage_never_hangs_or_kills(self, data: Path, sandbox: Sandbox, put: Any) -> None:
        """Flipped bytes in real compressed slices: an array or an InputError, nothing else."""
        random, decoded = np.random.default_rng(1), []
        files = sorted((data / "dicom" / "transfer_syntaxes").glob("CT_*"))
        for file in files:
            damaged = bytearray(file.read_bytes())
            for place in random.integers(200, len(damaged), 30):
                damaged[place] = int(random.integers(256))
            path = put(bytes(damaged))
            with contextlib.suppress(InputError):
                decoded.append(decode(sandbox, path))
        assert all(pixels.dtype == np.float32 for pixels in decoded)
        assert len(decoded) < len(files) > 10


def test_all_unreadable_files_are_listed(sandbox: Sandbox, put: Any, make_dicom: Build) -> None:
    paths = [put(b"one"), put(make_dicom(syntax=ImplicitVRLittleEndian)), put(b"")]
    with pytest.raises(UnknownMedia, match=r"file 1 of 3: .*\(2 files cannot be used; this is the first\)") as caught:
        sandbox.inspect(paths)
    assert [entry["where"] for entry in caught.value.errors] == ["file 1 of 3", "file 3 of 3"]
