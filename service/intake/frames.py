"""One frame of a DICOM image: as it is stored, and decoded by the plugin that serves its transfer syntax best. Child only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from pydicom import uid
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder

from service.errors import InputError, OutOfContract, TooLarge
from service.intake import codestream, dicom, elements
from service.intake.damage import reading
from service.intake.limits import Limits

_PLUGINS = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.RLELossless: "pylibjpeg",
}
"""GDCM only for what nothing else reads: lossless JPEG here, and JPEG of 12 bits in `_wide_jpeg`."""

JPEG_2000 = frozenset({uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K})
LOSSY_JPEG = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, dicom.SPECTRAL_SELECTION, dicom.FULL_PROGRESSION})
_JPEG_2000_BYTES_A_SAMPLE = 10
"""Working memory of OpenJPEG: two int32 planes and the result; measured 9."""
_PIECE = 1 << 20


@dataclass(frozen=True)
class Frame:
    """One frame, still encoded, with what its header says about it (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples: int
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: int
    syntax: uid.UID
    keyword: str
    """PixelData, FloatPixelData or DoubleFloatPixelData."""
    data: bytes
    """The code stream, or native samples in little endian; of 1 bit: packed from the lowest bit of the first byte."""

    @property
    def where(self) -> str:
        return f"its pixels in {dicom.syntax_name(self.syntax)} are damaged or incomplete and cannot be decoded; send it again"

    @property
    def floating(self) -> bool:
        return self.keyword != "PixelData"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little endian type of a decoded sample, as the header states it."""
        if self.floating:
            return np.dtype("<f4" if self.keyword == "FloatPixelData" else "<f8")
        return np.dtype(f"<{'i' if self.signed else 'u'}{max(1, self.bits_allocated // 8)}")


def read(source: dicom.Source, number: int) -> Frame:
    """One frame of an instance; of it only that frame is read.

    Parameters
    ----------
    source : Source
        Of which the `dicom.IMAGE_KEYWORDS` were read.
    number : int
        1-based, as in Referenced Frame Number (0008,1160).

    Raises
    ------
    OutOfContract
        No pixels, or no such frame.
    InputError
        Damaged.
    """
    ds, pixels = source.dataset, source.pixels
    if pixels is None:
        raise OutOfContract("it has no Pixel Data (7FE0,0010): there is no image in it; send the image itself")
    count = elements.whole(ds, "NumberOfFrames", 1)
    if not 1 <= number <= count:
        raise OutOfContract(f"it has no frame {number}: its frames are 1 to {count}")
    allocated = elements.whole(ds, "BitsAllocated")
    stored = elements.whole(ds, "BitsStored", allocated)
    return Frame(
        rows=elements.whole(ds, "Rows"),
        columns=elements.whole(ds, "Columns"),
        samples=elements.whole(ds, "SamplesPerPixel", 1),
        photometric=elements.text(ds, "PhotometricInterpretation"),
        planar=elements.whole(ds, "PlanarConfiguration"),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=elements.whole(ds, "HighBit", stored - 1),
        signed=elements.whole(ds, "PixelRepresentation"),
        syntax=source.transfer_syntax,
        keyword=pixels.keyword,
        data=_encapsulated(source, number, count) if pixels.encapsulated else _native(source, number),
    )


def _native(source: dicom.Source, number: int) -> bytes:
    """Frames follow each other without padding, to the bit (PS3.5 8.1.1 and 8.2)."""
    assert source.pixels is not None  # noqa: S101  # for the type checker
    bits, words = dicom.frame_bits(source.dataset, False), source.pixels.words
    begin, end = (number - 1) * bits, number * bits
    first, last = begin // 8, -(-end // 8)
    even = first - first % 2 if words else first
    source.stream.seek(source.pixels.offset + even)
    data = source.stream.read(last + last % 2 * words - even)
    if source.body.big:
        width = elements.whole(source.dataset, "BitsAllocated") // 8
        data = swapped(data, max(2, width) if words else width)
    data = data[first - even : last - even]  # no copy where it is all
    if bits % 8 == 0:
        return data
    picked = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[begin % 8 :][:bits]
    return np.packbits(picked, bitorder="little").tobytes()


def native_pieces(source: dicom.Source, size: int) -> Iterator[bytes]:
    """The first `size` bytes of native pixels, all frames, in little endian, piece by piece."""
    assert source.pixels is not None  # noqa: S101  # for the type checker
    width = elements.whole(source.dataset, "BitsAllocated") // 8
    source.stream.seek(source.pixels.offset)
    while size > 0:
        data = source.stream.read(min(_PIECE, size + size % 2))
        if not data:
            return
        if source.body.big:
            data = swapped(data, max(2, width) if source.pixels.words else width)
        yield data[:size]
        size -= len(data)


def swapped(data: bytes, width: int) -> bytes:
    """Bytes of big endian words of `width` bytes in little endian."""
    if width < 2:
        return data
    whole = len(data) // width * width
    return np.frombuffer(data, f">u{width}", whole // width).astype(f"<u{width}").tobytes() + data[whole:]


def _encapsulated(source: dicom.Source, number: int, count: int) -> bytes:
    """The fragments of a frame, joined (PS3.5 A.4)."""
    assert source.pixels is not None  # noqa: S101  # for the type checker
    ds, stream = source.dataset, source.stream
    tables = [ds.get(keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    offsets = (tables[0], tables[1]) if all(isinstance(table, bytes) and table for table in tables) else None
    stream.seek(source.pixels.offset)
    with reading(f"frame {number} of its Pixel Data (7FE0,0010) is damaged or missing; export it again"):
        data = get_frame(stream, number - 1, extended_offsets=offsets, number_of_frames=count)
        if not data or len(data) > dicom.frame_bits(ds, True) // 4 + (1 << 20):
            raise ValueError
    return data


def stored(stream: BinaryIO, number: int, limits: Limits) -> tuple[bytes, str]:
    """A frame as it is stored: its code stream; or, where it is native, its samples in little endian.

    Returns
    -------
    data : bytes
        Frames of 1 bit a sample begin at the lowest bit of a byte (PS3.18 8.7.3.3.1).
    transfer_syntax : str
        Of the code stream; Explicit VR Little Endian of native samples.
    """
    frame = read(dicom.recent.read(stream, limits), number)
    return frame.data, str(uid.ExplicitVRLittleEndian if frame.syntax in dicom.NATIVE else frame.syntax)


def decoded(stream: BinaryIO, number: int, limits: Limits) -> tuple[bytes, str]:
    """A frame uncompressed, little endian; colour that was compressed comes as RGB, colour-by-pixel (PS3.18 8.7.3.3.1)."""
    frame = read(dicom.recent.read(stream, limits), number)
    return (
        native_bytes(frame, limits) if frame.syntax not in dicom.NATIVE else frame.data,
        str(uid.ExplicitVRLittleEndian),
    )


def native_bytes(frame: Frame, limits: Limits) -> bytes:
    """The samples of a compressed frame as the header's Bits Allocated says, little endian."""
    return values(frame, limits).astype(frame.dtype, copy=False).tobytes()


def encoded_size(frame: Frame) -> codestream.Frame:
    """The size in the code stream, which must be the header's: decoders allocate by it."""
    size = codestream.jpeg_2000(frame.data) if frame.syntax in JPEG_2000 else codestream.jpeg(frame.data)
    if (size.rows, size.columns, size.samples) != (
        frame.rows,
        frame.columns,
        frame.samples,
    ) or size.bits > frame.bits_allocated:
        raise InputError(
            f"its compressed frame has {size.columns} x {size.rows} px, {size.samples} sample(s) of {size.bits} bits; its "
            f"header says {frame.columns} x {frame.rows} px, {frame.samples} sample(s), {frame.bits_allocated} bits"
        )
    return size


def values(frame: Frame, limits: Limits) -> np.ndarray:
    """Samples of a frame, shape (rows, columns), or (rows, columns, 3) as RGB.

    Integers of any width, 0 or 1 where a sample has one bit; floats of Float and Double Float Pixel Data.
    """
    if frame.floating:
        return np.frombuffer(frame.data, frame.dtype).reshape(_shape(frame))
    if frame.bits_allocated == 1 and frame.syntax in dicom.NATIVE:
        return np.unpackbits(np.frombuffer(frame.data, np.uint8), bitorder="little")[
            : frame.rows * frame.columns
        ].reshape(frame.rows, frame.columns)
    allocated, stored = frame.bits_allocated, frame.bits_stored
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or frame.high_bit != stored - 1:
        raise OutOfContract(
            f"its samples have {stored} of {allocated} bits, the highest being number {frame.high_bit}; 8, 16 or 32 bits, "
            "filled from the lowest (PS3.5 8.1.1), are read: export it again"
        )
    syntax = frame.syntax
    if syntax not in dicom.NATIVE and syntax != uid.RLELossless:
        size = encoded_size(frame)
        needed = _JPEG_2000_BYTES_A_SAMPLE * frame.rows * frame.columns * frame.samples
        if syntax in JPEG_2000 and needed > limits.child_memory_bytes * 3 // 4:
            raise TooLarge(
                f"{frame.columns} x {frame.rows} px are too many to decode as JPEG 2000; export it as JPEG or uncompressed"
            )
        if syntax in LOSSY_JPEG:
            if size.bits > 8:
                return _wide_jpeg(frame)
            syntax, allocated, stored = uid.JPEGBaseline8Bit, 8, 8
    options: dict[str, Any] = {
        "rows": frame.rows,
        "columns": frame.columns,
        "number_of_frames": 1,
        "samples_per_pixel": frame.samples,
        "photometric_interpretation": frame.photometric,
        "planar_configuration": frame.planar,
        "pixel_representation": frame.signed,
        "bits_allocated": allocated,
        "bits_stored": stored,
        "pixel_keyword": "PixelData",
        "view_only": True,
        "pixel_vr": "OB" if allocated == 8 else "OW",
    }
    with reading(frame.where):
        native = syntax in dicom.NATIVE  # then the samples are in little endian already
        decoder = get_decoder(uid.ExplicitVRLittleEndian if native else syntax)
        data = frame.data if native else encapsulate([frame.data], has_bot=False)
        found, _ = decoder.as_array(data, index=0, decoding_plugin=_PLUGINS.get(syntax, ""), **options)
    return found


def _shape(frame: Frame) -> tuple[int, ...]:
    return (frame.rows, frame.columns) if frame.samples == 1 else (frame.rows, frame.columns, frame.samples)


def _wide_jpeg(frame: Frame) -> np.ndarray:
    """A lossy JPEG of 12 bits (T.81 processes 4, 8 and 12), which GDCM decodes though pydicom's plugin refuses it."""
    import gdcm  # loaded only where it is needed

    if frame.samples != 1:
        raise OutOfContract("it is a JPEG in colour with 12 bits; export it with 8 bits")
    with reading(frame.where):
        fragment = gdcm.Fragment()
        fragment.SetByteStringValue(frame.data)
        fragments = gdcm.SequenceOfFragments.New()
        fragments.AddFragment(fragment)
        element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
        element.SetValue(fragments.__ref__())
        image = gdcm.Image()
        image.SetNumberOfDimensions(2)
        image.SetDimensions((frame.columns, frame.rows, 1))
        image.SetDataElement(element)
        monochrome = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
        image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(monochrome))
        image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str.__str__(frame.syntax))))
        image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
        data = image.GetBuffer().encode("utf-8", "surrogateescape")
        return np.frombuffer(data, "<u2").reshape(frame.rows, frame.columns)
