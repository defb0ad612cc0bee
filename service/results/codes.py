"""The coded concepts of the structured report and of the key object selection.

Codes are those of the DICOM Content Mapping Resource (PS3.16) and of LOINC. Scheme 99PELLUCID holds the few concepts that
neither has; the objects that use it identify it (Coding Scheme Identification Sequence (0008,0110)).
"""

from __future__ import annotations

from pydicom.sr.coding import Code

PRIVATE = "99PELLUCID"
PRIVATE_NAME = "Pellucid concepts"


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


def _own(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE, meaning)


# Root, context, image library: TID 1500, 1204, 1600
REPORT = _dcm("126000", "Imaging Measurement Report")
ENGLISH = Code("en", "RFC5646", "English")
PROCEDURE_REPORTED = _dcm("121058", "Procedure reported")
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
IMAGING_PROCEDURE = _sct("363679005", "Imaging procedure")
IMAGE_LIBRARY = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = _dcm("126200", "Image Library Group")
MODALITY = _dcm("121139", "Modality")
MODALITIES = {
    "CT": _dcm("CT", "Computed Tomography"),
    "OP": _dcm("OP", "Ophthalmic Photography"),
    "XC": _dcm("XC", "External-camera Photography"),
}
"""CID 29; a modality that is not among them is not stated."""
FRAME_OF_REFERENCE = _dcm("112227", "Frame of Reference UID")
SOURCE = _sct("260753009", "Source")
IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
KEY_IMAGES = _dcm("121180", "Key Images")
ILLUSTRATION = _dcm("121080", "Best illustration of finding")
PICTURE = _own("PICTURE", "Picture of the result")
SEGMENTATION = _dcm("113076", "Segmentation")
SALIENCY = _dcm("130404", "Saliency")

# Measurement groups: TID 1410, 1411, 1501, 4019
MEASUREMENT_GROUP = _dcm("125007", "Measurement Group")
TRACKING_IDENTIFIER = _dcm("112039", "Tracking Identifier")
TRACKING_UID = _dcm("112040", "Tracking Unique Identifier")
FINDING_CATEGORY = _sct("276214006", "Finding category")
ABNORMAL_STRUCTURE = _sct("49755003", "Morphologically Abnormal Structure")
FINDING = _dcm("121071", "Finding")
NODULE = _sct("27925004", "Nodule")
LUNG = _sct("39607008", "Lung")
RETINA = _sct("5665001", "Retina")
LATERALITY = {"R": _sct("24028007", "Right"), "L": _sct("7771000", "Left")}
REFERENCED_SEGMENT = _dcm("121191", "Referenced Segment")
SOURCE_OF_SEGMENTATION = _dcm("121233", "Source image for segmentation")
SOURCE_OF_MEASUREMENT = _dcm("121112", "Source of Measurement")
IMAGE_REGION = _dcm("111030", "Image Region")
CENTER = _dcm("111010", "Center")
PROBABILITY = _dcm("122157", "Probability")
PROBABILITY_OF_CANCER = _dcm("111047", "Probability of cancer")
CERTAINTY = _dcm("111012", "Certainty of Finding")
DIAMETER = _sct("81827009", "Diameter")
OPERATING_POINT = _dcm("111071", "CAD Operating Point")
OPERATING_POINT_DESCRIPTION = _dcm("111081", "CAD Operating Point Description")
SENSITIVITY = _dcm("111088", "Case Sensitivity")
SPECIFICITY = _dcm("111090", "Case Specificity")
ARTIFICIAL_INTELLIGENCE = _dcm("123110", "Artificial Intelligence")
NO_UNITS = Code("1", "UCUM", "no units")
PERCENT = Code("%", "UCUM", "Percent")
MILLIMETRE = Code("mm", "UCUM", "mm")
POSITIVE = _sct("10828004", "Positive")
NEGATIVE = _sct("260385009", "Negative")

# Retinopathy: LOINC, whose method is ophthalmoscopy; answers are the classes' own codes
SEVERITY = {
    "R": Code("71491-5", "LN", "Right eye Diabetic retinopathy severity level by Ophthalmoscopy"),
    "L": Code("71490-7", "LN", "Left eye Diabetic retinopathy severity level by Ophthalmoscopy"),
}
SEVERITY_OF_UNKNOWN_EYE = _own("SEVERITY", "Diabetic retinopathy severity level, eye not stated")
GRADES = (
    Code("LA18643-9", "LN", "No apparent retinopathy"),
    Code("LA18644-7", "LN", "Mild non-proliferative retinopathy"),
    Code("LA18645-4", "LN", "Moderate non-proliferative retinopathy"),
    Code("LA18646-2", "LN", "Severe non-proliferative retinopathy"),
    Code("LA18648-8", "LN", "Proliferative retinopathy"),
)
"""Answer list LL2117-1, by grade 0 to 4 of the international scale."""
REFERRALS = {
    "mtmDR": _own("MTMDR", "More than mild diabetic retinopathy"),
    "vtDR": _own("VTDR", "Vision-threatening diabetic retinopathy"),
}
DECISION = _own("DECISION", "Decision at operating point")
GRADED_FIELD = _own("FIELD", "Part of the photograph that was graded")

ORIGIN = _own("ORIGIN", "Origin of region")
ORIGINS = {
    "request": _own("REQUEST", "Named in the request"),
    "reference": _own("REFERENCE", "Marked in a DICOM object that references the images"),
    "candidate": _own("CANDIDATE", "Candidate found by software, not confirmed by a reader"),
}

# What a reader says: TID 1003
VERDICT = _own("VERDICT", "Verdict of a reader")
VERDICTS = {
    "rejected": _own("REJECTED", "Rejected"),
    "modified": _own("CORRECTED", "Corrected"),
}
NOT_A_NODULE = _own("NONODULE", "Not a nodule")
CORRECTION = _own("CORRECTION", "What the reader says instead")
OBSERVER_TYPE = _dcm("121005", "Observer Type")
PERSON = _dcm("121006", "Person")
PERSON_NAME = _dcm("121008", "Person Observer Name")

# Evaluations of the whole input
SUMMARY_OF_RUN = _dcm("111017", "CAD Processing and Findings Summary")
RUN_WITHOUT_FINDINGS = _dcm("111241", "All algorithms succeeded; without findings")
RUN_WITH_FINDINGS = _dcm("111242", "All algorithms succeeded; with findings")
RUN_IN_PART_WITHOUT_FINDINGS = _dcm("111243", "Not all algorithms succeeded; without findings")
RUN_IN_PART = _dcm("111244", "Not all algorithms succeeded; with findings")
RUN_FAILED = _dcm("111245", "No algorithms succeeded; without findings")
OUTCOME = _own("OUTCOME", "Outcome of the analysis")
OUTCOMES = {
    "positive": _own("POSITIVE", "Positive at the operating point"),
    "negative": _own("NEGATIVE", "Negative at the operating point"),
    "graded": _own("GRADED", "Graded"),
    "ungradable": _own("UNGRADABLE", "Not gradable"),
    "out_of_scope": _own("OUTOFSCOPE", "Outside what the model was made for"),
    "no_region": _own("NOREGION", "Nothing was classified: no region was named or found"),
    "rejected": _own("ALLREJECTED", "A reader rejected every finding"),
}
SUMMARY = _dcm("121111", "Summary")
IMAGE_QUALITY = _dcm("111101", "Image Quality")
QUALITIES = {
    "111237": _dcm("111237", "Usable - Meets the quality control standard"),
    "111236": _dcm("111236", "Usable - Does not meet the quality control standard"),
    "111235": _dcm("111235", "Unusable - Quality renders image unusable"),
}
QUALITY_ISSUE = _dcm("113010", "Quality Issue")
REJECTED = _dcm("113001", "Rejected for Quality Reasons")
RECOMMENDATION = _dcm("121075", "Recommendation")
COMMENT = _dcm("121106", "Comment")
CHECK = _own("CHECK", "Input check that did not pass")
LIMIT_OF_USE = _own("LIMIT", "Limit of use of the model")
INTENDED_USE = _own("USE", "Intended use")

# Key object selection: TID 2010, CID 7010, 7011
OF_INTEREST = _dcm("113000", "Of Interest")
KEY_OBJECT_DESCRIPTION = _dcm("113012", "Key Object Description")
TITLE_MODIFIER = _dcm("113011", "Document Title Modifier")
OTHER_FAILURE = _dcm("111220", "Other failure")
REJECTIONS = {
    "too_dark": _dcm("111211", "Under exposed"),
    "too_bright": _dcm("111212", "Over exposed"),
    "field_cut_off": _dcm("111209", "Positioning"),
}
"""Why an image was rejected, by code of the quality gate; all else is `OTHER_FAILURE`."""
