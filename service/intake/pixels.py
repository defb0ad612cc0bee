"""Pixels of one DICOM frame, decoded by the plugin that serves its transfer syntax best. Runs in the child only."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut

from service.errors import InputError, OutOfContract, TooLarge
from service.intake import codestream, dicom, elements, photograph
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

_JPEG_2000 = frozenset({uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K})
_LOSSY_JPEG = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, dicom.SPECTRAL_SELECTION, dicom.FULL_PROGRESSION})
_JPEG_2000_BYTES_A_SAMPLE = 10
"""Working memory of OpenJPEG: two int32 planes and the result; measured 9."""

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR", "MONOCHROME1", "MONOCHROME2")


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
    signed: int
    syntax: uid.UID
    element: bytes
    """Value of Pixel Data: the samples, or the encapsulated fragments."""

    @property
    def where(self) -> str:
        return f"its pixels in {dicom.syntax_name(self.syntax)} are damaged or incomplete and cannot be decoded; send it again"


def hounsfield(stream: BinaryIO, limits: Limits) -> np.ndarray:
    """Grey slice with Rescale Slope and Intercept applied, float32 (rows, columns); PS3.3 C.11.1.

    Raises
    ------
    OutOfContract
        No pixels, colour, several frames.
    InputError, TooLarge
        Damaged, or more than `limits` allows.
    """
    ds, frame = _read(stream, limits)
    if frame.samples != 1 or not frame.photometric.startswith("MONOCHROME"):
        raise OutOfContract("its pixels are in colour; a grey CT slice is needed")
    if frame.rows * frame.columns > limits.slice_pixels:
        raise TooLarge(
            f"it has {frame.columns} x {frame.rows} px; at most {limits.slice_pixels} are accepted for a slice"
        )
    slope, intercept = elements.numbers(ds, "RescaleSlope", 1), elements.numbers(ds, "RescaleIntercept", 1)
    values = _decode(frame, limits).astype(np.float32)
    if slope:
        values *= np.float32(slope[0])
        values += np.float32(intercept[0] if intercept else 0)
    return values


def rgb(stream: BinaryIO, longest_px: int, limits: Limits) -> np.ndarray:
    """A photograph as uint8 RGB, shape (h, w, 3), the longer side at most `longest_px`; more than 8 bits are scaled down."""
    ds, frame = _read(stream, limits)
    if frame.photometric not in _COLOURS:
        allowed = ", ".join(_COLOURS)
        raise OutOfContract(f"{elements.label('PhotometricInterpretation')} is not one of {allowed}; export it as RGB")
    if frame.syntax in _LOSSY_JPEG and frame.samples == 3:
        encoded, size = _encoded(frame)
        if size.bits == 8:
            return photograph.dicom_jpeg(io.BytesIO(encoded), frame.photometric, longest_px, limits)
    values, bits = _decode(frame, limits), frame.bits_stored

    def strip(top: int, end: int) -> Image.Image:
        part, depth = values[top:end], bits
        if part.dtype.kind == "i":
            part = part.astype(np.int32) + (1 << (depth - 1))
        if frame.photometric == "PALETTE COLOR":
            part = apply_color_lut(part, ds)[:, :, :3]
            depth = 8 * part.dtype.itemsize
        part = (part >> (depth - 8) if depth > 8 else part << (8 - depth)).astype(np.uint8)
        return Image.fromarray(255 - part if frame.photometric == "MONOCHROME1" else part).convert("RGB")

    with reading("its colours cannot be read: its palette is damaged; export it as RGB"):
        return np.asarray(photograph.shrink(frame.columns, frame.rows, longest_px, strip))


def _read(stream: BinaryIO, limits: Limits) -> tuple[Dataset, Frame]:
    """Header and encoded pixels of a single-frame instance."""
    source = dicom.read(stream, limits)
    ds, pixels, syntax = source.dataset, source.pixels, source.transfer_syntax
    if pixels is None:
        raise OutOfContract("it has no Pixel Data (7FE0,0010): there is no image in it; send the image itself")
    frames = elements.whole(ds, "NumberOfFrames", 1)
    if frames != 1:
        raise OutOfContract(f"it has {frames} frames; send single-frame instances")
    allocated, stored = elements.whole(ds, "BitsAllocated"), elements.whole(ds, "BitsStored")
    high = elements.whole(ds, "HighBit", stored - 1)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1:
        raise OutOfContract(
            f"its samples have {stored} of {allocated} bits, the highest being number {high}; 8, 16 or 32 bits, filled "
            "from the lowest (PS3.5 8.1.1), are read: export it again"
        )
    source.stream.seek(pixels.offset)
    frame = Frame(
        rows=elements.whole(ds, "Rows"),
        columns=elements.whole(ds, "Columns"),
        samples=elements.whole(ds, "SamplesPerPixel", 1),
        photometric=elements.text(ds, "PhotometricInterpretation"),
        planar=elements.whole(ds, "PlanarConfiguration"),
        bits_allocated=allocated,
        bits_stored=stored,
        signed=elements.whole(ds, "PixelRepresentation"),
        syntax=syntax,
        element=source.stream.read(pixels.length),
    )
    return ds, frame


def _encoded(frame: Frame) -> tuple[bytes, codestream.Frame]:
    """The compressed frame, its fragments joined, and its own size, which must be the header's: decoders allocate by it."""
    with reading(frame.where):
        found = list(generate_frames(frame.element, number_of_frames=1))
    if len(found) != 1 or not found[0]:
        raise InputError(frame.where)
    size = codestream.jpeg_2000(found[0]) if frame.syntax in _JPEG_2000 else codestream.jpeg(found[0])
    if (size.rows, size.columns, size.samples) != (
        frame.rows,
        frame.columns,
        frame.samples,
    ) or size.bits > frame.bits_allocated:
        raise InputError(
            f"its compressed frame has {size.columns} x {size.rows} px, {size.samples} sample(s) of {size.bits} bits; its "
            f"header says {frame.columns} x {frame.rows} px, {frame.samples} sample(s), {frame.bits_allocated} bits"
        )
    return found[0], size


def _decode(frame: Frame, limits: Limits) -> np.ndarray:
    """Integers of any width, shape (rows, columns) or (rows, columns, 3) as RGB."""
    syntax, allocated, stored = frame.syntax, frame.bits_allocated, frame.bits_stored
    if syntax not in dicom.NATIVE and syntax != uid.RLELossless:
        encoded, size = _encoded(frame)
        needed = _JPEG_2000_BYTES_A_SAMPLE * frame.rows * frame.columns * frame.samples
        if syntax in _JPEG_2000 and needed > limits.child_memory_bytes * 3 // 4:
            raise TooLarge(
                f"{frame.columns} x {frame.rows} px are too many to decode as JPEG 2000; export it as JPEG or uncompressed"
            )
        if syntax in _LOSSY_JPEG:
            if size.bits > 8:
                return _wide_jpeg(frame, encoded)
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
        decoder = get_decoder(syntax)
        values, _ = decoder.as_array(frame.element, index=0, decoding_plugin=_PLUGINS.get(syntax, ""), **options)
    return values


def _wide_jpeg(frame: Frame, encoded: bytes) -> np.ndarray:
    """A lossy JPEG of 12 bits (T.81 processes 4, 8 and 12), which GDCM decodes though pydicom's plugin refuses it."""
    import gdcm  # loaded only where it is needed

    if frame.samples != 1:
        raise OutOfContract("it is a JPEG in colour with 12 bits; export it with 8 bits")
    with reading(frame.where):
        fragment = gdcm.Fragment()
        fragment.SetByteStringValue(encoded)
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
