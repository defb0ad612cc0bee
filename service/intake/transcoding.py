"""A whole instance in Explicit VR Little Endian, for clients that do not take the stored transfer syntax. Child only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from service.errors import InputError, TooLarge
from service.intake import dicom, elements, frames, metadata
from service.intake.damage import reading
from service.intake.limits import Limits

_MOST_VALUE_BYTES = 0xFFFFFFFE
_ENCAPSULATION = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "EncapsulatedPixelDataValueTotalLength")


def transcode(stream: BinaryIO, target: Path, limits: Limits) -> int:
    """Write an instance as a Part 10 file in Explicit VR Little Endian (PS3.18 8.7.3.5.2, PS3.10 7.1).

    Compressed colour becomes RGB, colour-by-pixel. What follows the pixels (digital signatures, padding) is left out: it
    would not be true of the new encoding.

    Parameters
    ----------
    stream : binary stream
    target : Path
        A new file.
    limits : Limits

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    InputError, OutOfContract, TooLarge
        As decoding its frames does; no whole file is left then.
    """
    source = dicom.read_whole(stream, limits, large=True)
    ds = source.dataset
    for keyword in _ENCAPSULATION:
        if source.pixels is None or source.pixels.encapsulated:
            ds.pop(keyword, None)
    count = elements.whole(ds, "NumberOfFrames", 1)
    bits = dicom.frame_bits(ds, source.pixels.encapsulated) * count if source.pixels else 0
    size = -(-bits // 8)
    if size > min(limits.file_bytes, _MOST_VALUE_BYTES):
        raise TooLarge(f"uncompressed it has {size} bytes; at most {limits.file_bytes} are written")
    header = _header(source)
    with target.open("xb") as file:
        with reading("its header cannot be written in Explicit VR Little Endian; export it again"):
            dcmwrite(file, header, enforce_file_format=True)
        if source.pixels is not None:
            vr = {"FloatPixelData": b"OF", "DoubleFloatPixelData": b"OD"}.get(source.pixels.keyword, b"OW")
            tag = elements.tag(source.pixels.keyword)
            file.write(struct.pack("<HH2sHL", tag.group, tag.element, vr, 0, size + size % 2))
            written = sum(file.write(part) for part in _parts(source, count, bits, limits))
            if written != size:
                raise InputError(f"its pixels have {written} bytes where {size} are needed; export it again")
            file.write(b"\0" * (size % 2))
        return file.tell()


def _header(source: dicom.Source) -> Dataset:
    """The header as it will be true of the new file."""
    ds = source.dataset
    metadata.to_little_endian(ds, source.body.big)
    if source.pixels is not None and source.pixels.encapsulated and elements.whole(ds, "SamplesPerPixel", 1) == 3:
        ds.PhotometricInterpretation, ds.PlanarConfiguration = "RGB", 0
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.UID(elements.identifier(ds, "SOPClassUID"))
    meta.MediaStorageSOPInstanceUID = uid.UID(elements.identifier(ds, "SOPInstanceUID"))
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.file_meta = meta
    return ds


def _parts(source: dicom.Source, count: int, bits: int, limits: Limits) -> Iterator[bytes]:
    """The pixel value, piece by piece."""
    if source.pixels is not None and source.pixels.encapsulated:
        for number in range(1, count + 1):
            yield frames.native_bytes(frames.read(source, number), limits)
        return
    yield from frames.native_pieces(source, -(-bits // 8))
