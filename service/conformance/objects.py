"""The instances that are created: SOP classes, what stands in them, content trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from pydicom import uid
from pydicom.sr.coding import Code

from service.conformance.tables import concept, keyword, table
from service.conformance.tables import uid as named
from service.records import MadeKind, ObjectKind
from service.results import codes

KINDS: tuple[ObjectKind, ...] = get_args(ObjectKind)
SOP_CLASSES: Mapping[MadeKind, tuple[str, ...]] = MappingProxyType(
    {
        "SR": (uid.Comprehensive3DSRStorage,),
        "SEG": (uid.SegmentationStorage,),
        "PM": (uid.ParametricMapStorage,),
        "SC": (uid.SecondaryCaptureImageStorage, uid.MultiFrameTrueColorSecondaryCaptureImageStorage),
        "KOS": (uid.KeyObjectSelectionDocumentStorage,),
        "RN": (uid.KeyObjectSelectionDocumentStorage,),
    }
)
MODALITIES: Mapping[MadeKind, str] = MappingProxyType(
    {"SR": "SR", "SEG": "SEG", "PM": "OT", "SC": "OT", "KOS": "KO", "RN": "KO"}
)
_WHEN: Mapping[MadeKind, tuple[str, str]] = MappingProxyType(
    {
        "SR": ("TID 1500", "always, whatever the outcome"),
        "SEG": ("-", "findings with a response map; not for an eye without retinopathy"),
        "PM": ("-", "CT only, findings with a response map"),
        "SC": ("-", "always; multi-frame where there are several pictures"),
        "KOS": ("TID 2010", "findings on slices, or images that were refused; not for `no_region`"),
        "RN": ("TID 2010", "with every revision: the objects that it replaces"),
    }
)
VALUES: Mapping[MadeKind, Mapping[str, str]] = MappingProxyType(
    {
        "SR": {
            "CompletionFlag": "COMPLETE",
            "VerificationFlag": "UNVERIFIED",
            "PreliminaryFlag": "PRELIMINARY",
        },
        "SEG": {
            "SegmentationType": "BINARY",
            "ContentLabel": "CRITICAL_REGION",
            "SegmentAlgorithmType": "AUTOMATIC",
        },
        "PM": {"ContentLabel": "HEATMAP", "LUTLabel": "HEATMAP", "RealWorldValueSlope": "1.0"},
        "SC": {
            "ConversionType": "WSD",
            "ImageType": "DERIVED\\SECONDARY",
            "BurnedInAnnotation": "YES",
            "RecognizableVisualFeatures": "NO",
            "PhotometricInterpretation": "RGB",
            "BitsAllocated": "8",
        },
        "KOS": {},
        "RN": {},
    }
)
"""Attributes with a fixed value, at any depth of the object."""

OF_SOURCE = (
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "PatientBirthDate", "PatientSex", "QualityControlSubject", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified", "StudyInstanceUID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence",
    "StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "AdmissionID", "IssuerOfAdmissionIDSequence",
    "TimezoneOffsetFromUTC",
)  # fmt: skip
"""Attributes that every object takes from its source images."""

FIXED_CODES = {
    code.value: code
    for code in (
        Code("109102", "DCM", "Processing Equipment"),
        Code("111000", "DCM", "Algorithm Family"),
        Code("111001", "DCM", "Algorithm Name"),
        Code("111002", "DCM", "Algorithm Parameters"),
        Code("111003", "DCM", "Algorithm Version"),
        Code("112187", "DCM", "Unspecified method of calculation"),
        Code("121005", "DCM", "Observer Type"),
        Code("121012", "DCM", "Device Observer UID"),
        Code("121013", "DCM", "Device Observer Name"),
        Code("121014", "DCM", "Device Observer Manufacturer"),
        Code("121015", "DCM", "Device Observer Model Name"),
        Code("121016", "DCM", "Device Observer Serial Number"),
        Code("121049", "DCM", "Language of Content Item and Descendants"),
        Code("121322", "DCM", "Source image for image processing operation"),
        Code("122405", "DCM", "Algorithm Manufacturer"),
        Code("246205007", "SCT", "Quantity"),
        Code("272741003", "SCT", "Laterality"),
        Code("363698007", "SCT", "Finding Site"),
    )
}
"""Codes that templates and library fix, beside those of `service.results.codes`, by value."""


@dataclass(frozen=True)
class Item:
    """One row of a content tree.

    Attributes
    ----------
    depth : int
        0 for the root.
    relation, kind : str
        Relationship to the item above, value type.
    names : tuple of Code
        Concept name; several where one of them is used.
    note : str
        What its value is, and when it is there.
    """

    depth: int
    relation: str
    kind: str
    names: tuple[Code, ...]
    note: str = ""


def _fixed(value: str) -> Code:
    return FIXED_CODES[value]


_CONTEXT = (
    Item(
        1, "HAS OBS CONTEXT", "CODE", (_fixed("121005"),), "(121007, DCM, Device): the model is the observer (TID 1004)"
    ),
    Item(1, "HAS OBS CONTEXT", "UIDREF", (_fixed("121012"),), "changes whenever the weights change"),
    Item(1, "HAS OBS CONTEXT", "TEXT", (_fixed("121013"),)),
    Item(1, "HAS OBS CONTEXT", "TEXT", (_fixed("121014"),)),
    Item(1, "HAS OBS CONTEXT", "TEXT", (_fixed("121015"),)),
    Item(1, "HAS OBS CONTEXT", "TEXT", (_fixed("121016"),), "SHA-256 of the weights"),
)
_SEVERITIES = (*codes.SEVERITY.values(), codes.SEVERITY_OF_UNKNOWN_EYE)
_DECISIONS = (codes.DECISION, *codes.REFERRALS.values())


def _verdict(depth: int, when: str, struck: bool) -> tuple[Item, ...]:
    """What a reader says, at this depth, and below it by whom and why."""
    named = (
        Item(depth + 1, "HAS OBS CONTEXT", "TEXT", (codes.TRACKING_IDENTIFIER,), "of the finding, which is none any more"),
        Item(depth + 1, "HAS OBS CONTEXT", "UIDREF", (codes.TRACKING_UID,)),
        Item(depth + 1, "HAS PROPERTIES", "CODE", (codes.CORRECTION,), "where it is no nodule, as the reader says"),
    )  # fmt: skip
    instead = (
        Item(depth + 1, "HAS PROPERTIES", "CODE", (codes.FINDING,), "nodule: the class that the reader gives"),
        Item(depth + 1, "HAS PROPERTIES", "CODE", _SEVERITIES, "eye: the grade that the reader gives"),
        Item(depth + 1, "HAS PROPERTIES", "TEXT", (codes.CORRECTION,), "anything else that the reader gives"),
    )
    return (
        Item(depth, "CONTAINS", "CODE", (codes.VERDICT,), f"{when}; Observation DateTime is when it was given"),
        Item(depth + 1, "HAS OBS CONTEXT", "CODE", (codes.OBSERVER_TYPE,), "(121006, DCM, Person), if named (TID 1003)"),
        Item(depth + 1, "HAS OBS CONTEXT", "PNAME", (codes.PERSON_NAME,), "as it was given, in the place of the family name"),
        *(named if struck else instead),
        Item(depth + 1, "HAS PROPERTIES", "TEXT", (codes.COMMENT,), "the reason, where one was given"),
    )  # fmt: skip


REPORT: tuple[Item, ...] = (
    Item(0, "", "CONTAINER", (codes.REPORT,), "TID 1500"),
    Item(1, "HAS CONCEPT MOD", "CODE", (_fixed("121049"),), "English"),
    *_CONTEXT,
    Item(1, "HAS CONCEPT MOD", "CODE", (codes.PROCEDURE_REPORTED,), "Procedure Code Sequence of the images, else by modality"),
    Item(1, "CONTAINS", "CONTAINER", (codes.IMAGE_LIBRARY,), "TID 1600"),
    Item(2, "CONTAINS", "CONTAINER", (codes.IMAGE_LIBRARY_GROUP,)),
    Item(3, "HAS ACQ CONTEXT", "CODE", (codes.MODALITY,), "where it is one of CT, OP, XC"),
    Item(3, "HAS ACQ CONTEXT", "UIDREF", (codes.FRAME_OF_REFERENCE,), "where there is one"),
    Item(3, "CONTAINS", "IMAGE", (codes.SOURCE,), "images that the model saw"),
    Item(1, "CONTAINS", "CONTAINER", (codes.IMAGING_MEASUREMENTS,), "where there are findings"),
    Item(2, "CONTAINS", "CONTAINER", (codes.MEASUREMENT_GROUP,), "a finding: TID 1411 with segment, 1410 without, 1501 eye"),
    Item(3, "HAS OBS CONTEXT", "TEXT", (codes.TRACKING_IDENTIFIER,)),
    Item(3, "HAS OBS CONTEXT", "UIDREF", (codes.TRACKING_UID,), "the same in SR, SEG and JSON"),
    Item(3, "CONTAINS", "CODE", (codes.FINDING_CATEGORY,), "nodule"),
    Item(3, "CONTAINS", "CODE", (codes.FINDING,), "nodule"),
    Item(3, "HAS CONCEPT MOD", "CODE", (_fixed("363698007"),), "lung or retina"),
    Item(4, "HAS CONCEPT MOD", "CODE", (_fixed("272741003"),), "eye, where it is known"),
    Item(3, "HAS CONCEPT MOD", "CODE", (_fixed("111000"),), "TID 4019"),
    Item(3, "HAS CONCEPT MOD", "TEXT", (_fixed("111001"),)),
    Item(3, "HAS CONCEPT MOD", "TEXT", (_fixed("111003"),)),
    Item(3, "HAS CONCEPT MOD", "TEXT", (_fixed("111002"),), "hash of the weights; rule of the maps; which slices"),
    Item(3, "HAS CONCEPT MOD", "TEXT", (_fixed("122405"),)),
    Item(3, "CONTAINS", "IMAGE", (codes.REFERENCED_SEGMENT,), "nodule with a segment"),
    Item(3, "CONTAINS", "IMAGE", (codes.SOURCE_OF_SEGMENTATION,), "nodule with a segment"),
    Item(3, "CONTAINS", "IMAGE", (codes.SOURCE_OF_MEASUREMENT,), "eye"),
    Item(3, "CONTAINS", "SCOORD", (codes.IMAGE_REGION, codes.CENTER, codes.GRADED_FIELD),
         "nodule without segment; nodule with segment; eye"),
    Item(4, "SELECTED FROM", "IMAGE", (codes.SOURCE,)),
    Item(3, "CONTAINS", "NUM", (codes.PROBABILITY_OF_CANCER, codes.PROBABILITY), "0 to 1; one a class"),
    Item(4, "HAS CONCEPT MOD", "CODE", (codes.FINDING,), "the class"),
    Item(3, "CONTAINS", "NUM", (codes.DIAMETER,), "mm; candidates of the built-in search"),
    Item(3, "CONTAINS", "NUM", (codes.CERTAINTY,), "%; candidates of the built-in search: how much it looks like a nodule"),
    Item(3, "CONTAINS", "CODE", (codes.ORIGIN,), "nodule: who named the place"),
    Item(3, "CONTAINS", "CODE", _SEVERITIES, "eye: grade 0 to 4 as LOINC answer"),
    Item(4, "HAS PROPERTIES", "NUM", (codes.CERTAINTY,), "%; probability of the grade"),
    Item(3, "CONTAINS", "CODE", _DECISIONS, "positive or negative at an operating point"),
    Item(4, "HAS PROPERTIES", "NUM", (codes.PROBABILITY,), "the score that was compared"),
    Item(4, "HAS PROPERTIES", "NUM", (codes.OPERATING_POINT,), "the threshold"),
    Item(4, "HAS PROPERTIES", "NUM", (codes.SENSITIVITY,), "%, measured with these weights"),
    Item(4, "HAS PROPERTIES", "NUM", (codes.SPECIFICITY,), "%, measured with these weights"),
    Item(4, "HAS PROPERTIES", "TEXT", (codes.OPERATING_POINT_DESCRIPTION,)),
    *_verdict(3, "finding that a reader corrected", False),
    Item(1, "CONTAINS", "CONTAINER", (codes.QUALITATIVE_EVALUATIONS,), "always"),
    Item(2, "CONTAINS", "CODE", (codes.SUMMARY_OF_RUN,), "CID 6047"),
    Item(2, "CONTAINS", "CODE", (codes.OUTCOME,), "always"),
    Item(2, "CONTAINS", "TEXT", (codes.SUMMARY,), "the result in sentences"),
    *_verdict(2, "each finding that a reader rejected", True),
    Item(2, "CONTAINS", "CODE", (codes.IMAGE_QUALITY,), "always"),
    Item(3, "HAS PROPERTIES", "TEXT", (codes.QUALITY_ISSUE,), "each reason"),
    Item(3, "HAS PROPERTIES", "TEXT", (codes.RECOMMENDATION,), "what to retake"),
    Item(2, "CONTAINS", "TEXT", (codes.CHECK,), "input checks that did not pass"),
    Item(2, "CONTAINS", "TEXT", (codes.COMMENT,), "warnings"),
    Item(2, "CONTAINS", "TEXT", (codes.LIMIT_OF_USE,), "each limit of use of the model"),
    Item(2, "CONTAINS", "TEXT", (codes.INTENDED_USE,), "always"),
    Item(1, "CONTAINS", "CONTAINER", (codes.KEY_IMAGES,), "where other objects were made"),
    Item(2, "CONTAINS", "IMAGE", (codes.SEGMENTATION,), "the SEG"),
    Item(2, "CONTAINS", "IMAGE", (codes.SALIENCY,), "the PM"),
    Item(2, "CONTAINS", "IMAGE", (codes.ILLUSTRATION, codes.PICTURE), "the SC, with and without findings"),
    Item(2, "CONTAINS", "COMPOSITE", (codes.OF_INTEREST, codes.QUALITY_ISSUE), "the KOS, with and without findings"),
)  # fmt: skip
"""Content tree of the structured report."""

SELECTION: tuple[Item, ...] = (
    Item(0, "", "CONTAINER", (codes.OF_INTEREST, codes.QUALITY_ISSUE), "TID 2010; the second for images that were refused"),
    Item(1, "HAS CONCEPT MOD", "CODE", (codes.TITLE_MODIFIER,), "CID 7011: why images were refused"),
    *_CONTEXT,
    Item(1, "CONTAINS", "TEXT", (codes.KEY_OBJECT_DESCRIPTION,), "the result in sentences"),
    Item(1, "CONTAINS", "IMAGE", (codes.SOURCE,), "slice with the centre and slice with the strongest response of each finding"),
)  # fmt: skip
"""Content tree of the key object selection."""

REJECTION: tuple[Item, ...] = (
    Item(0, "", "CONTAINER", (codes.REJECTED,), "TID 2010"),
    Item(1, "HAS CONCEPT MOD", "CODE", (codes.TITLE_MODIFIER,), "CID 7011: 111220"),
    *_CONTEXT,
    Item(1, "CONTAINS", "TEXT", (codes.KEY_OBJECT_DESCRIPTION,), "why, and the report that replaces the old one"),
    Item(1, "CONTAINS", "IMAGE", (codes.SOURCE,), "each SEG, PM and SC that was replaced"),
    Item(1, "CONTAINS", "COMPOSITE", (codes.SOURCE,), "each SR and KOS that was replaced"),
)  # fmt: skip
"""Content tree of the rejection note."""


def all_codes() -> list[Code]:
    """Every code of the modules that make results, and those that templates fix, by scheme and value."""
    from service.results import content, pm, seg  # highdicom takes a second to import

    found: dict[tuple[str, str, str], Code] = {}

    def add(value: object) -> None:
        if isinstance(value, Code):
            found[(value.scheme_designator, value.value, value.meaning)] = value
        elif isinstance(value, Mapping):
            for inner in value.values():
                add(inner)
        elif isinstance(value, tuple):
            for inner in value:
                add(inner)

    for module in (codes, content, pm, seg):
        for value in vars(module).values():
            add(value)
    for code in FIXED_CODES.values():
        add(code)
    return [found[key] for key in sorted(found)]


def code_table(private: bool) -> str:
    """Codes of the private scheme, or all others."""
    rows = [
        (f"`{code.value}`", code.scheme_designator, code.meaning)
        for code in all_codes()
        if (code.scheme_designator == codes.PRIVATE) == private
    ]
    return table(("value", "scheme", "meaning"), rows)


def tree(items: tuple[Item, ...]) -> str:
    """A content tree as a table."""
    rows = (
        (">" * item.depth, item.relation, item.kind, " or ".join(map(concept, item.names)), item.note) for item in items
    )
    return table(("level", "relationship", "value type", "concept name", "value, and when"), rows)


def kinds() -> str:
    """The kinds of objects with their SOP classes and series."""
    from service.results.common import SERIES

    def rows() -> Iterator[tuple[object, ...]]:
        for kind, classes in SOP_CLASSES.items():
            number, description = SERIES[kind]
            for name in classes:
                yield kind, named(name), f"`{name}`", MODALITIES[kind], f"{number}, {description}", *_WHEN[kind]

    return table(("kind", "SOP class", "UID", "Modality", "Series Number and Description", "template", "made"), rows())


def fixed_values() -> str:
    """Attributes with the same value in every object of a kind."""
    rows = [(kind, keyword(name), f"`{value}`") for kind, values in VALUES.items() for name, value in values.items()]
    return table(("kind", "attribute", "value"), rows)


def of_source() -> str:
    """Attributes copied from the source images."""
    return ", ".join(keyword(name) for name in OF_SOURCE) + "."
