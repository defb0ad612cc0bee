"""What the conformance statement says of created objects stands in the objects, and nothing else does."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pydicom
import pytest
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from service.conformance import objects
from service.records import ResultObject
from service.results import build, rejection
from service.results.report import NOT_A_NODULE, Report, Verdict
from tests.statement import rows, section

Code = tuple[str, str, str]
Make = Callable[..., Report]
OUTCOMES = {"ct": ("positive", "negative", "out_of_scope", "no_region"), "op": ("graded", "ungradable", "out_of_scope")}


def cases(make: Make) -> Iterator[Report]:
    """Reports of every outcome, origin of a nodule, eye and grade, and of the rarer reasons."""
    for outcome in OUTCOMES["ct"]:
        for origin in ("request", "reference", "candidate"):
            yield make("ct", outcome, origin=origin, warned=("a warning",))
        yield make("ct", outcome, maps=False, origin="candidate")
    for outcome in OUTCOMES["op"]:
        yield from (make("op", outcome, side=side) for side in ("R", "L", ""))
        yield make("vl", outcome)
    yield from (make("op", "graded", grade=grade) for grade in range(5))
    failed = {"id": "x", "result": "fail", "message": "one part failed", "value": 1, "limit": 0}
    positive = make("ct", "positive")
    given = positive.result["input"]
    yield replace(positive, result={**positive.result, "input": {**given, "checks": [*given["checks"], failed]}})
    ungradable = make("op", "ungradable")
    reasons = [{"code": code, "message": code, "retake": ""} for code in ("too_bright", "field_cut_off")]
    yield replace(
        ungradable, result={**ungradable.result, "quality": {**ungradable.result["quality"], "reasons": reasons}}
    )


def revisions(make: Make) -> Iterator[tuple[Report, Report]]:
    """Reports before and after each verdict of a reader."""
    when = datetime(2026, 5, 6, tzinfo=UTC)

    def verdict(value: str | None = None) -> Verdict:
        return Verdict("modified" if value else "rejected", when, value, "a reason", "Reader")

    nodules = make("ct", "positive")
    for value in (None, NOT_A_NODULE, "benign", "malignant", "else"):
        yield nodules, replace(nodules, verdicts={"r1": verdict(value)}, revised=when)
    yield nodules, replace(nodules, verdicts={"r1": verdict(), "r2": verdict()}, revised=when)
    for side in ("R", "L", ""):
        eye = make("op", "graded", side=side)
        yield eye, replace(eye, verdicts={"eye": verdict("3")}, revised=when)


@pytest.fixture(scope="module")
def made(make_report: Make) -> list[tuple[ResultObject, Dataset]]:
    found = [one for report in cases(make_report) for one in build.build(report, objects.KINDS)]
    for before, report in revisions(make_report):
        new = build.build(report, objects.KINDS)
        found += [*new, rejection.build(report, build.build(before, objects.KINDS), new)]
    return [(one, pydicom.dcmread(io.BytesIO(one.data))) for one in found]


def walk(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from walk(item)


def code_of(item: Dataset) -> Code:
    return item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning


def codes_in(dataset: Dataset) -> set[Code]:
    return {code_of(item) for item in walk(dataset) if "CodeValue" in item}


def stated_codes(title: str) -> set[Code]:
    return {(row["value"], row["scheme"], row["meaning"]) for row in rows(title, "value")}


def test_every_stated_code_is_used_and_every_used_code_is_stated(made: list[tuple[ResultObject, Dataset]]) -> None:
    private = stated_codes("B.1 Private coding scheme 99PELLUCID")
    classes = {(row["value"], row["scheme"], row["meaning"]) for row in rows("B.2 Classes of the models", "model")}
    standard = stated_codes("Annex B Coded concepts")
    used: set[Code] = set().union(*(codes_in(dataset) for _, dataset in made))
    assert standard | private == used - (classes - standard)
    assert {code for code in used if code[1] == "99PELLUCID"} == private
    for _, dataset in made:
        if any(code[1] == "99PELLUCID" for code in codes_in(dataset)):
            assert dataset.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99PELLUCID"


def edges(item: Dataset, above: Code | None = None) -> Iterator[tuple[Code | None, str, str, Code]]:
    """Concept above, relationship, value type, concept of every content item."""
    name = code_of(item.ConceptNameCodeSequence[0])
    yield above, item.get("RelationshipType", ""), item.ValueType, name
    for child in item.get("ContentSequence", ()):
        yield from edges(child, name)


def stated_items(title: str) -> Iterator[tuple[list[Code | None], str, str, list[Code]]]:
    """Concepts that may be above, relationship, value type and concepts of every row."""
    path: list[list[Code | None]] = []
    for row in rows(title, "level"):
        depth = len(row["level"])
        names = []
        for text in row["concept name"].split(") or ("):
            value, scheme, meaning = text.strip("()").split(", ", 2)
            names.append((value, scheme, meaning.strip('"')))
        path[depth:] = [[*names]]
        yield path[depth - 1] if depth else [None], row["relationship"], row["value type"], names


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("SR", "A.3 Structured report (TID 1500)"),
        ("KOS", "A.4 Key object selection (TID 2010)"),
        ("RN", "A.5 Rejection note (TID 2010)"),
    ],
)
def test_content_trees_are_the_stated_ones(made: list[tuple[ResultObject, Dataset]], kind: str, title: str) -> None:
    built = {edge for one, dataset in made if one.kind == kind for edge in edges(dataset)}
    told = set()
    for above, relation, value_type, names in stated_items(title):
        for name in names:
            possible = {(one, relation, value_type, name) for one in above}
            assert possible & built, f"no {kind} has {name} there"
            told |= possible
    assert built <= told, sorted(map(str, built - told))


def test_kinds_classes_and_series_are_the_stated_ones(made: list[tuple[ResultObject, Dataset]]) -> None:
    told = {
        (row["kind"], row["UID"], row["Modality"], row["Series Number and Description"])
        for row in rows("A.1 Kinds", "kind")
    }
    assert told == {
        (one.kind, ds.SOPClassUID, ds.Modality, f"{ds.SeriesNumber}, {ds.SeriesDescription}") for one, ds in made
    }
    assert {ds.file_meta.TransferSyntaxUID for _, ds in made} == {pydicom.uid.ExplicitVRLittleEndian}


def values_of(dataset: Dataset, keyword: str) -> set[str]:
    found = set()
    for item in walk(dataset):
        if keyword in item:
            value = item[keyword].value
            found.add("\\".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str(value))
    return found


def test_fixed_values_are_fixed(made: list[tuple[ResultObject, Dataset]]) -> None:
    table = rows("A.2 Attributes", "kind")
    assert len(table) == sum(len(values) for values in objects.VALUES.values())
    for row in table:
        keyword = row["attribute"].split()[0]
        for one, dataset in made:
            if one.kind == row["kind"]:
                assert values_of(dataset, keyword) == {row["value"]}, (one.kind, keyword)


def test_stated_attributes_come_from_the_images_and_no_others_of_patient_and_study(make_report: Make) -> None:
    listed = section("A.2 Attributes").split("are empty else: ")[1].split(".\n")[0]
    told = {part.split(" (")[0] for part in listed.split(", ")}
    assert told == set(objects.OF_SOURCE)
    for at, name in enumerate(objects.OF_SOURCE):
        header: dict[str, Any] = {name: _value(name, at)}
        if name == "PatientIdentityRemoved":
            header["DeidentificationMethod"] = "by hand"
        (report,) = build.build(make_report("ct", "negative", header), ("SR",))
        assert pydicom.dcmread(io.BytesIO(report.data))[name].value == header[name], name
    foreign = {"PatientComments": "no", "EthnicGroup": "no", "ProtocolName": "no", "OtherPatientIDs": "no"}
    (report,) = build.build(make_report("ct", "negative", foreign), ("SR",))
    assert not {keyword_for_tag(element.tag) for element in pydicom.dcmread(io.BytesIO(report.data))} & set(foreign)


def _value(keyword: str, at: int) -> Any:
    vr = pydicom.datadict.dictionary_VR(keyword)
    if vr == "SQ":
        item = Dataset()
        if "Code" in keyword:
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113100", "DCM", "Basic Profile"
        else:
            item.UniversalEntityID, item.UniversalEntityIDType = "clinic", "DNS"
        return [item]
    values = {
        "PN": "Roe^Richard",
        "DA": "20200304",
        "TM": "111213",
        "CS": "YES",
        "UI": "1.2.840.99.1",
        "DS": "1.5",
        "AS": "030Y",
    }
    return {
        "PatientSex": "M",
        "TimezoneOffsetFromUTC": "+0200",
        "LongitudinalTemporalInformationModified": "REMOVED",
    }.get(keyword) or values.get(vr, f"text {at}")
