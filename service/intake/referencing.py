"""What an object that references images says about places in them, whatever its kind. Runs in the child only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, BinaryIO

from service.errors import OutOfContract
from service.intake import attributes, dicom, elements, reports, segmentations, structure_sets
from service.intake.limits import Limits
from service.intake.references import References

_READERS = {**reports.READERS, **segmentations.READERS, **structure_sets.READERS}
"""By SOP class."""


def found_in(stream: BinaryIO, limits: Limits) -> dict[str, Any]:
    """`References` of an instance, as JSON.

    A result of this product, which its Contributing Equipment (0018,A001) tells, gives no places: they would come round.

    Raises
    ------
    OutOfContract
        The object is none that points to places.
    InputError, TooLarge
        Damaged, or more than `limits` allows.
    """
    source = dicom.read_whole(stream, limits)
    read = _READERS.get(elements.identifier(source.dataset, "SOPClassUID"))
    if read is None:
        raise OutOfContract("it is no structured report, segmentation or structure set: it points to no places")
    own = "0018A001" in attributes.attributes(source.dataset)
    return asdict(References(own=True) if own else read(source, limits))
