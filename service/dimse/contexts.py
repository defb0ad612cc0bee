"""What is negotiated: SOP classes that are received, and their transfer syntaxes. The conformance statement is made from it."""

from __future__ import annotations

from pydicom import uid
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from service.intake.dicom import ENCAPSULATED, NATIVE

IMAGES: tuple[uid.UID, ...] = (
    uid.CTImageStorage,
    uid.EnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.OphthalmicPhotography8BitImageStorage,
    uid.OphthalmicPhotography16BitImageStorage,
    uid.VLPhotographicImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)
DERIVED: tuple[uid.UID, ...] = (
    uid.SegmentationStorage,
    uid.ParametricMapStorage,
    uid.RTStructureSetStorage,
    uid.BasicTextSRStorage,
    uid.EnhancedSRStorage,
    uid.ComprehensiveSRStorage,
    uid.Comprehensive3DSRStorage,
    uid.ExtensibleSRStorage,
    uid.ChestCADSRStorage,
    uid.XRayRadiationDoseSRStorage,
    uid.KeyObjectSelectionDocumentStorage,
)
"""Objects without pixels that are decoded as images here: native transfer syntaxes, and RLE for segmentations."""

_LOSSLESS_FIRST = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.RLELossless,
)
NATIVE_SYNTAXES: tuple[uid.UID, ...] = tuple(
    sorted(NATIVE, key=lambda syntax: (syntax not in _LOSSLESS_FIRST, syntax == uid.ImplicitVRLittleEndian, syntax))
)
IMAGE_SYNTAXES: tuple[uid.UID, ...] = (
    *_LOSSLESS_FIRST,
    *sorted((NATIVE | ENCAPSULATED) - set(_LOSSLESS_FIRST)),
)
"""In the order in which one is chosen where a sender offers several in one presentation context."""

STORAGE: frozenset[str] = frozenset(str(sop_class) for sop_class in IMAGES + DERIVED)
COMMITMENT = str(StorageCommitmentPushModel)
VERIFICATION = str(Verification)


def supported() -> list[PresentationContext]:
    """The presentation contexts an acceptor offers.

    Storage Commitment is negotiated with inverted roles (PS3.7 D.3.3.4): the archive that opens the association is the provider,
    and reports on what we asked it to keep (PS3.4 J.3.3).
    """
    contexts = [build_context(VERIFICATION, list(NATIVE_SYNTAXES))]
    contexts += [build_context(sop_class, list(IMAGE_SYNTAXES)) for sop_class in IMAGES]
    contexts += [
        build_context(
            sop_class,
            [*NATIVE_SYNTAXES, *((uid.RLELossless,) if sop_class == uid.SegmentationStorage else ())],
        )
        for sop_class in DERIVED
    ]
    commitment = build_context(COMMITMENT, [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
    commitment.scu_role, commitment.scp_role = False, True
    return [*contexts, commitment]
