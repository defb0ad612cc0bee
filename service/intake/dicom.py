"""DICOM headers: what an instance says about itself, with all sizes checked before a pixel is read. Runs in the child only.

The file meta information is walked here and the data set is handed to pydicom's `read_dataset`, so that a deflated data
set is inflated under a cap and large elements are skipped. Sources: PS3.10 7.1, PS3.5 7.1, 7.5 and A.4 - A.5.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

from pydicom import config, uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag

from service.errors import InputError, TooLarge, UnknownMedia
from service.intake import elements
from service.intake.damage import reading
from service.intake.limits import Limits

warnings.simplefilter("ignore")  # pydicom's warnings quote the file
config.settings.reading_validation_mode = config.IGNORE

PIXEL_DATA = 0x7FE00010
_FIRST_PIXEL_TAG = 0x7FE00008
_UNDEFINED = 0xFFFFFFFF
_CUT_OFF = "its DICOM header ends in the middle of an element: it is incomplete; send it again"
_ITEM, _END_OF_SEQUENCE = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_FRAGMENTS = 1 << 16
_LONG_LENGTH = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")

_KEYWORDS = (
    "ImageType SOPClassUID SOPInstanceUID Modality PatientID SliceThickness StudyInstanceUID SeriesInstanceUID InstanceNumber "
    "ImagePositionPatient ImageOrientationPatient FrameOfReferenceUID Laterality ImageLaterality SamplesPerPixel "
    "PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns PixelSpacing BitsAllocated BitsStored HighBit "
    "PixelRepresentation RescaleIntercept RescaleSlope RedPaletteColorLookupTableDescriptor "
    "GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData "
    "GreenPaletteColorLookupTableData BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData "
    "SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData"
)
"""The elements that are read; all others are skipped."""
_TAGS: list[BaseTag | int] = [Tag(keyword) for keyword in _KEYWORDS.split()]

NATIVE = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)
SPECTRAL_SELECTION, FULL_PROGRESSION = uid.UID("1.2.840.10008.1.2.4.53"), uid.UID("1.2.840.10008.1.2.4.55")
ENCAPSULATED = frozenset({
    uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, SPECTRAL_SELECTION, FULL_PROGRESSION, uid.JPEGLossless, uid.JPEGLosslessSV1,
    uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL,
    uid.HTJ2K, uid.RLELossless,
})  # fmt: skip


@dataclass(frozen=True)
class PixelData:
    """Where the pixels are in the (inflated) stream."""

    offset: int
    length: int
    encapsulated: bool


@dataclass(frozen=True)
class Source:
    """A DICOM instance with its header read and its pixels still in the stream."""

    dataset: Dataset
    stream: BinaryIO
    transfer_syntax: uid.UID
    pixels: PixelData | None


def inspect(stream: BinaryIO, limits: Limits) -> dict[str, Any]:
    """Header of an instance as the fields of `records.Instance`.

    Raises
    ------
    InputError
        Truncated or damaged; a missing or malformed SOP Instance UID; fewer bytes of pixels than the header states.
    TooLarge
        More pixels, bytes or metadata than `limits` allows.
    UnknownMedia
        Pixels in a transfer syntax that is not read.
    """
    source = read(stream, limits)
    ds = source.dataset
    spacing, thickness = elements.numbers(ds, "PixelSpacing", 2), elements.numbers(ds, "SliceThickness", 1)
    slope, intercept = elements.numbers(ds, "RescaleSlope", 1), elements.numbers(ds, "RescaleIntercept", 1)
    if spacing is not None and min(spacing) <= 0:
        raise InputError(f"{elements.label('PixelSpacing')} is not positive; correct the header and send it again")
    sop_instance = elements.identifier(ds, "SOPInstanceUID")
    if not sop_instance:
        raise InputError(
            "it has no SOP Instance UID (0008,0018): without it nothing can refer to this instance; export it again"
        )
    return {
        "media": "dicom",
        "rows": elements.whole(ds, "Rows"),
        "columns": elements.whole(ds, "Columns"),
        "sop_instance_uid": sop_instance,
        "frames": elements.whole(ds, "NumberOfFrames", 1),
        "samples": elements.whole(ds, "SamplesPerPixel", 1),
        "bits": elements.whole(ds, "BitsAllocated", 8),
        "sop_class_uid": elements.identifier(ds, "SOPClassUID"),
        "series_uid": elements.identifier(ds, "SeriesInstanceUID"),
        "study_uid": elements.identifier(ds, "StudyInstanceUID"),
        "frame_of_reference_uid": elements.identifier(ds, "FrameOfReferenceUID"),
        "modality": elements.text(ds, "Modality"),
        "transfer_syntax_uid": str(source.transfer_syntax),
        "photometric": elements.text(ds, "PhotometricInterpretation"),
        "has_pixels": source.pixels is not None,
        "image_type": elements.texts(ds, "ImageType"),
        "pixel_spacing": spacing,
        "orientation": elements.numbers(ds, "ImageOrientationPatient", 6),
        "position": elements.numbers(ds, "ImagePositionPatient", 3),
        "slice_thickness": thickness[0] if thickness and thickness[0] > 0 else None,
        "rescale": (slope[0], intercept[0] if intercept else 0.0) if slope else None,
        "laterality": elements.text(ds, "ImageLaterality") or elements.text(ds, "Laterality"),
        "patient_id": elements.text(ds, "PatientID"),
        "instance_number": elements.whole(ds, "InstanceNumber")
        if elements.value(ds, "InstanceNumber") is not None
        else None,
    }


def syntax_name(transfer_syntax: str) -> str:
    """Name and UID of a transfer syntax, for messages."""
    known = uid.UID(transfer_syntax)
    return (
        f"{known.name} ({transfer_syntax})" if known.name != transfer_syntax else f"transfer syntax {transfer_syntax}"
    )


def read(stream: BinaryIO, limits: Limits) -> Source:
    """Read the header up to the pixels and check every size in it; see `inspect` for the errors."""
    size = stream.seek(0, os.SEEK_END)
    if size > limits.file_bytes:
        raise TooLarge(f"it has {size} bytes; at most {limits.file_bytes} are accepted")
    with reading("its DICOM header is damaged or incomplete; export it again"):
        transfer_syntax, at = _meta(stream, size)
        stream.seek(at)
        if transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
            stream, at = _inflate(stream, limits), 0
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
        big = transfer_syntax == uid.ExplicitVRBigEndian
        guarded = _Guarded(stream, size, limits)
        ds = read_dataset(
            guarded,  # type: ignore[arg-type]  # has what pydicom uses of a stream
            transfer_syntax == uid.ImplicitVRLittleEndian,
            not big,
            stop_when=lambda tag, vr, length: tag >= _FIRST_PIXEL_TAG,
            specific_tags=_TAGS,
        )
        for tag in list(ds.keys()):
            raw: Any = ds.get_item(tag)
            if isinstance(raw, RawDataElement) and raw.value is not None and len(raw.value) != raw.length != _UNDEFINED:
                raise InputError(_CUT_OFF)
        if not len(ds):
            raise InputError("it holds no DICOM elements: it is incomplete; send it again")
        ds.ensure_file_meta()
        ds.file_meta.TransferSyntaxUID = transfer_syntax
        pixels = _find_pixels(stream, size, ds.original_encoding[0] is True, big)
    if pixels is not None:
        _check_sizes(ds, transfer_syntax, pixels, limits)
    return Source(ds, stream, transfer_syntax, pixels)


class _Guarded:
    """The stream as pydicom sees it: no huge element is read, nothing beyond the end is skipped to."""

    def __init__(self, stream: BinaryIO, size: int, limits: Limits) -> None:
        self._stream, self._size, self._largest = stream, size, limits.header_bytes
        self.tell = stream.tell

    def read(self, count: int = -1) -> bytes:
        if count < 0 or count > self._largest:
            raise TooLarge(f"an element of its DICOM header has {count} bytes; at most {self._largest} are accepted")
        return self._stream.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        at = self._stream.seek(offset, whence)
        if at > self._size:
            raise InputError(_CUT_OFF)
        return at


def _meta(stream: BinaryIO, size: int) -> tuple[uid.UID, int]:
    """Transfer syntax and the offset of the data set. Group 0002 is always explicit VR little endian (PS3.10 7.1)."""
    stream.seek(128)
    at = 132 if stream.read(4) == b"DICM" else 0
    found = ""
    while True:
        stream.seek(at)
        group, element, vr, length = struct.unpack("<HH2sH", stream.read(8).ljust(8, b"\0"))
        if group != 2:
            break
        start = at + 8
        if vr in _LONG_LENGTH:
            (length,) = struct.unpack("<L", stream.read(4))
            start += 4
        if start + length > size:
            raise InputError("its file meta information ends too early: it is incomplete; send it again")
        if element == 0x10 and length <= 66:
            found = stream.read(length).decode("ascii").rstrip("\0 ")
            if not elements.UID_PATTERN.fullmatch(found):
                raise InputError("its Transfer Syntax UID (0002,0010) is malformed; export it again")
        at = start + length
    if not found:  # PS3.10 demands it; old exports lack it. The first element tells the value representation.
        found = uid.ExplicitVRLittleEndian if vr.isalpha() and vr.isupper() else uid.ImplicitVRLittleEndian
    return uid.UID(found), at


def _inflate(stream: BinaryIO, limits: Limits) -> io.BytesIO:
    """Inflate a deflated data set (PS3.5 A.5) as a stream, up to the cap."""
    inflater, result = zlib.decompressobj(-zlib.MAX_WBITS), io.BytesIO()
    while not inflater.eof:
        block = inflater.unconsumed_tail or stream.read(1 << 20)
        if not block:
            raise InputError("its deflated data set ends too early: it is incomplete; send it again")
        result.write(inflater.decompress(block, 1 << 20))
        if result.tell() > limits.inflated_bytes:
            raise TooLarge(
                f"its deflated data set inflates to more than the {limits.inflated_bytes} bytes that are accepted"
            )
    return result


def _find_pixels(stream: BinaryIO, size: int, implicit: bool, big: bool) -> PixelData | None:
    """The Pixel Data element at the stream's position, its fragments walked; None where there is no such element."""
    order = ">" if big else "<"
    head = stream.read(8)
    if len(head) < 8:
        return None
    group, element = struct.unpack(order + "HH", head[:4])
    if (group << 16 | element) != PIXEL_DATA:
        return None
    if implicit:
        (length,) = struct.unpack(order + "L", head[4:])
    else:
        (length,) = struct.unpack(order + "L", stream.read(4))
    start = stream.tell()
    if length != _UNDEFINED:
        if start + length > size:
            raise InputError(
                f"Pixel Data (7FE0,0010) should have {length} bytes and has {size - start}: the file is incomplete; send it again"
            )
        return PixelData(start, length, False)
    at = start
    for _ in range(_FRAGMENTS):
        stream.seek(at)
        item = stream.read(8)
        if item[:4] == _END_OF_SEQUENCE:
            return PixelData(start, at + 8 - start, True)
        if item[:4] != _ITEM:
            raise InputError(
                "a fragment of Pixel Data (7FE0,0010) is damaged or missing: the file is incomplete; send it again"
            )
        at += 8 + int.from_bytes(item[4:8], "little")
        if at > size:
            raise InputError(
                "the last fragment of Pixel Data (7FE0,0010) is cut off: the file is incomplete; send it again"
            )
    raise InputError(f"Pixel Data (7FE0,0010) has more than {_FRAGMENTS} fragments; export it again")


def _check_sizes(ds: Dataset, syntax: uid.UID, pixels: PixelData, limits: Limits) -> None:
    """The arithmetic before any decoding: dimensions against the limits, and native pixels against their stated length."""
    if syntax not in NATIVE | ENCAPSULATED:
        raise UnknownMedia(
            f"its pixels are in {syntax_name(syntax)}, which is not read here; export it uncompressed or as JPEG 2000"
        )
    if pixels.encapsulated == (syntax in NATIVE):
        raise InputError(f"its pixels are not stored the way {syntax_name(syntax)} demands; export it again")
    rows, columns = elements.whole(ds, "Rows"), elements.whole(ds, "Columns")
    samples, bits = elements.whole(ds, "SamplesPerPixel", 1), elements.whole(ds, "BitsAllocated")
    frames = elements.whole(ds, "NumberOfFrames", 1)
    if rows < 1 or columns < 1 or samples not in (1, 3) or bits not in (1, 8, 16, 32, 64) or frames < 1:
        raise InputError(
            f"its size is impossible: {rows} rows, {columns} columns, {samples} samples, {bits} bits, {frames} frames"
        )
    if rows * columns > limits.pixels:
        raise TooLarge(f"it has {columns} x {rows} px; at most {limits.pixels} pixels are accepted")
    frame_bits = rows * columns * samples * bits
    if frame_bits > 8 * limits.frame_bytes:
        raise TooLarge(f"one frame has {frame_bits // 8} bytes; at most {limits.frame_bytes} are accepted")
    if frame_bits * frames > 8 * limits.expanded_bytes:
        raise TooLarge(
            f"its {frames} frames have {frame_bits * frames // 8} bytes; at most {limits.expanded_bytes} are accepted"
        )
    if (
        elements.text(ds, "PhotometricInterpretation") in ("YBR_FULL_422", "YBR_PARTIAL_422")
        and not pixels.encapsulated
    ):
        frame_bits = frame_bits * 2 // 3
    expected = -(-frame_bits * frames // 8)
    if not pixels.encapsulated and pixels.length < expected:
        raise InputError(
            f"Pixel Data (7FE0,0010) has {pixels.length} bytes where {expected} are needed: it is incomplete; send it again"
        )
    if pixels.length > 2 * expected + (1 << 20):
        raise InputError(
            f"Pixel Data (7FE0,0010) has {pixels.length} bytes where about {expected} are needed; export it again"
        )
