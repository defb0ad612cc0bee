"""DICOM instances: the header read, all sizes checked before a pixel is. Runs in the child only."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from pydicom import config, datadict, uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag

from service.errors import InputError, TooLarge, UnknownMedia
from service.intake import elements, part10
from service.intake.damage import reading
from service.intake.limits import Limits

warnings.simplefilter("ignore")  # pydicom's warnings quote the file
config.settings.reading_validation_mode = config.IGNORE

_DAMAGED = "its DICOM header is damaged or incomplete; export it again"
_DEFER_BYTES = 1 << 16
"""Larger elements are not read with the whole header, except sequences: nobody needs them there."""
_SEQUENCE_BYTES = 64 << 20
"""Largest element of a whole header: contours of many organs."""

IMAGE_KEYWORDS = (
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "PatientID",
    "SliceThickness",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "Laterality",
    "ImageLaterality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
"""The elements that describe pixels and their place."""


def tags(keywords: Sequence[str]) -> list[BaseTag | int]:
    """Tags of keywords, as `read` takes them."""
    return [Tag(keyword) for keyword in keywords]


_IMAGE_TAGS = tags(IMAGE_KEYWORDS)

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
class Source:
    """A DICOM instance with its header read and its pixels still in the stream."""

    dataset: Dataset
    body: part10.Body
    pixels: part10.PixelData | None

    @property
    def stream(self) -> BinaryIO:
        return self.body.stream

    @property
    def transfer_syntax(self) -> uid.UID:
        return self.body.transfer_syntax


def syntax_name(transfer_syntax: str) -> str:
    """Name and UID of a transfer syntax, for messages."""
    known = uid.UID(transfer_syntax)
    return (
        f"{known.name} ({transfer_syntax})" if known.name != transfer_syntax else f"transfer syntax {transfer_syntax}"
    )


def read(stream: BinaryIO, limits: Limits, wanted: list[BaseTag | int] | None = None) -> Source:
    """Read some elements of the header up to the pixels and check every size in it.

    Parameters
    ----------
    stream : binary stream
    limits : Limits
    wanted : list of tag, optional
        The elements that are read, all others being skipped; `IMAGE_KEYWORDS` by default, and they must be among them.

    Raises
    ------
    InputError
        Truncated or damaged; fewer bytes of pixels than the header states.
    TooLarge
        More pixels, bytes or metadata than `limits` allows.
    UnknownMedia
        Pixels in a transfer syntax that is not read.
    """
    return _read(stream, limits, wanted or _IMAGE_TAGS, None, limits.header_bytes)


class Recent:
    """The header of the last file with several frames: they are asked for one by one, and its groups take long to pass."""

    def __init__(self) -> None:
        self._known: tuple[tuple[int, ...], Source] | None = None

    def read(self, stream: BinaryIO, limits: Limits) -> Source:
        """As `dicom.read` with the `IMAGE_KEYWORDS`."""
        try:
            found = os.fstat(stream.fileno())
        except OSError:  # no file
            return read(stream, limits)
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._known is not None and self._known[0] == identity:
            source = self._known[1]
            return replace(source, body=replace(source.body, stream=stream))
        source = read(stream, limits)
        if source.stream is stream and elements.whole(source.dataset, "NumberOfFrames", 1) > 1:
            self._known = identity, source
        return source


recent = Recent()
"""Of this child."""


def read_whole(stream: BinaryIO, limits: Limits, *, large: bool = False) -> Source:
    """Read the whole header, private elements included; errors as in `read`.

    An element of more than 64 KiB that is no sequence stays in the stream (a RawDataElement without value), unless
    `large` asks for it.
    """
    return _read(stream, limits, None, None if large else _DEFER_BYTES, max(limits.header_bytes, _SEQUENCE_BYTES))


def _read(
    stream: BinaryIO, limits: Limits, wanted: list[BaseTag | int] | None, defer: int | None, largest: int
) -> Source:
    size = stream.seek(0, os.SEEK_END)
    if size > limits.file_bytes:
        raise TooLarge(f"it has {size} bytes; at most {limits.file_bytes} are accepted")
    with reading(_DAMAGED):
        body = part10.open_body(stream, limits)
        body.stream.seek(body.start)
        guarded = part10.Guarded(body, largest)
        ds = read_dataset(
            guarded,  # type: ignore[arg-type]  # has what pydicom uses of a stream
            body.implicit,
            not body.big,
            stop_when=lambda tag, vr, length: tag >= part10.FIRST_PIXEL_TAG,
            defer_size=defer,
            specific_tags=wanted,
        )
        if not len(ds):
            raise InputError("it holds no DICOM elements: it is incomplete; send it again")
        end = body.stream.tell()
        _complete(ds, guarded)
        ds.ensure_file_meta()
        ds.file_meta.TransferSyntaxUID = body.transfer_syntax
        body.stream.seek(end)
        pixels = part10.find_pixels(body, ds.original_encoding[0] is True)
    if pixels is not None:
        _check_sizes(ds, body.transfer_syntax, pixels, limits)
    return Source(ds, body, pixels)


def _complete(ds: Dataset, stream: part10.Guarded) -> None:
    """Refuse values that are cut off, and read the sequences that were deferred for their size."""
    for tag in list(ds.keys()):
        raw: Any = ds.get_item(tag, keep_deferred=True)
        if not isinstance(raw, RawDataElement) or raw.length == part10.UNDEFINED:
            continue
        if raw.value is None and raw.length and vr_of(raw) == "SQ":
            stream.seek(raw.value_tell)
            raw = raw._replace(value=stream.read(raw.length))
            ds[raw.tag] = raw
        if raw.value is not None and len(raw.value) != raw.length:
            raise InputError(part10.CUT_OFF)


def vr_of(raw: RawDataElement) -> str:
    """Value representation of an element as read; from the dictionary where the encoding leaves it open."""
    if raw.VR is not None and raw.VR != "UN":
        return raw.VR
    try:
        return datadict.dictionary_VR(raw.tag)
    except KeyError:
        return "UN"


def frame_bits(ds: Dataset, encapsulated: bool) -> int:
    """Bits of one frame, uncompressed; of native YBR_FULL_422, whose colours two pixels share, as stored (PS3.3 C.7.6.3.1.2)."""
    rows, columns = elements.whole(ds, "Rows"), elements.whole(ds, "Columns")
    bits = rows * columns * elements.whole(ds, "SamplesPerPixel", 1) * elements.whole(ds, "BitsAllocated")
    halved = elements.text(ds, "PhotometricInterpretation") in ("YBR_FULL_422", "YBR_PARTIAL_422")
    return bits * 2 // 3 if halved and not encapsulated else bits


def _check_sizes(ds: Dataset, syntax: uid.UID, pixels: part10.PixelData, limits: Limits) -> None:
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
    widths = {"PixelData": (1, 8, 16, 32, 64), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}[pixels.keyword]
    if rows < 1 or columns < 1 or samples not in (1, 3) or bits not in widths or frames < 1:
        raise InputError(
            f"its size is impossible: {rows} rows, {columns} columns, {samples} samples, {bits} bits, {frames} frames"
        )
    if rows * columns > limits.pixels:
        raise TooLarge(f"it has {columns} x {rows} px; at most {limits.pixels} pixels are accepted")
    decoded_bits = rows * columns * samples * bits
    if decoded_bits > 8 * limits.frame_bytes:
        raise TooLarge(f"one frame has {decoded_bits // 8} bytes; at most {limits.frame_bytes} are accepted")
    if decoded_bits * frames > 8 * limits.expanded_bytes:
        raise TooLarge(
            f"its {frames} frames have {decoded_bits * frames // 8} bytes; at most {limits.expanded_bytes} are accepted"
        )
    expected = -(-frame_bits(ds, pixels.encapsulated) * frames // 8)
    if not pixels.encapsulated and pixels.length < expected:
        raise InputError(
            f"{elements.label(pixels.keyword)} has {pixels.length} bytes where {expected} are needed: "
            "it is incomplete; send it again"
        )
    if pixels.length > 2 * expected + (1 << 20):
        raise InputError(
            f"{elements.label(pixels.keyword)} has {pixels.length} bytes where about {expected} are needed; export it again"
        )
