"""JSON schemas of the bodies, part of the OpenAPI document."""

from __future__ import annotations

from typing import Any, get_args

from models.cases import SPLITS
from service.pipeline.request import MAPS, MAX_REGIONS, OBJECTS
from service.store.agreement import VERDICTS, Period
from service.store.deliveries import CALLBACK, STATES

_NUMBER: dict[str, Any] = {"type": "number"}
_TEXT: dict[str, Any] = {"type": "string"}
_FLAG: dict[str, Any] = {"type": "boolean"}
_UID: dict[str, Any] = {"type": "string", "pattern": "^[0-9.]{0,64}$"}
_SLICE: dict[str, Any] = {
    "type": "string",
    "pattern": "^[0-9.]{0,64}(#[0-9]+)?$",
    "description": "SOP Instance UID; of one frame of an enhanced object with # and the frame's number.",
}
_SHARES: dict[str, Any] = {"type": "object", "additionalProperties": _NUMBER}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required.split()
    return schema


def _list(item: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, **more}


def _one_of(*values: Any) -> dict[str, Any]:
    return {"enum": list(values)}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "null"}]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_VERDICT_KEYS = "id finding verdict value reason reader account created model version"
_VERDICT: dict[str, Any] = {
    "id": {"type": "integer"},
    "finding": _TEXT,
    "verdict": _one_of(*VERDICTS),
    "value": _or_null(_TEXT),
    "reason": _or_null(_TEXT),
    "reader": {**_or_null(_TEXT), "description": "Who judged."},
    "account": {**_or_null(_TEXT), "description": "Name of the token it came with."},
    "created": _TEXT,
    "model": _TEXT,
    "version": _or_null(_TEXT),
}
_TALLY_KEYS = "n accepted modified rejected agreement interval"
_TALLY: dict[str, Any] = {
    "n": {"type": "integer"},
    "accepted": {"type": "integer"},
    "modified": {"type": "integer"},
    "rejected": {"type": "integer"},
    "agreement": {**_or_null(_NUMBER), "description": "accepted / n; null where n is 0."},
    "interval": {
        **_or_null(_list(_NUMBER, minItems=2, maxItems=2)),
        "description": "Wilson's 95 % interval of `agreement`.",
    },
}

_FINDING = _object(
    "id tracking_uid label probabilities operating_point location evidence",
    id=_TEXT,
    tracking_uid={**_UID, "description": "The same for the same images, weights and place."},
    label=_TEXT,
    probabilities={**_SHARES, "description": "By class; sums to 1."},
    grade={"type": "integer", "description": "Retina only."},
    referable=_object(mtmDR=_FLAG, vtDR=_FLAG),
    operating_point=_object(
        "name threshold sensitivity specificity n decision",
        name=_TEXT,
        threshold=_NUMBER,
        sensitivity=_NUMBER,
        specificity=_NUMBER,
        n={"type": "integer"},
        data_set=_TEXT,
        score=_NUMBER,
        decision=_one_of("positive", "negative"),
    ),
    location=_object(
        sop_instance_uid=_SLICE,
        center_mm=_or_null(_list(_NUMBER)),
        diameter_mm=_or_null(_NUMBER),
        origin={
            **_one_of("request", "reference", "candidate"),
            "description": "Who named the place: the request, a DICOM object among the images, or the built-in search.",
        },
        box_px={
            **_list(_NUMBER),
            "description": "x0, y0, x1, y1 in pixels of the upright original; may reach beyond it.",
        },
    ),
    slices=_list(_object(sop_instance_uid=_SLICE, probabilities=_SHARES)),
    evidence=_object(
        "maps",
        maps={
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "Address of each map's PNG; .npz instead gives the arrays.",
        },
        dominant_class_share=_SHARES,
        class_correlation=_or_null(_NUMBER),
        rule=_TEXT,
        start=_TEXT,
        scale=_or_null(_object(per_image=_NUMBER, per_model=_NUMBER)),
        peak_px=_or_null(_list(_NUMBER)),
        peak_sop_instance_uid=_SLICE,
        peak_slice={"type": "integer"},
    ),
)

SCHEMAS: dict[str, dict[str, Any]] = {
    "Request": _object(
        model=_or_null({**_TEXT, "description": "Without it the model is chosen by content."}),
        laterality=_or_null(_one_of("R", "L")),
        regions=_list(
            _object(
                id=_TEXT,
                center_mm=_list(_NUMBER, minItems=3, maxItems=3),
                sop_instance_uid=_UID,
                center_px=_list(_NUMBER, minItems=2, maxItems=2),
            ),
            maxItems=MAX_REGIONS,
            description="Without any, reports, segmentations and structure sets among the files say where to look, or a "
            "search for candidates. Each with center_mm (patient coordinates), or sop_instance_uid and center_px (column, row).",
        ),
        maps=_list(_one_of(*MAPS)),
        objects={
            **_list(_one_of(*OBJECTS)),
            "description": "Kinds of DICOM objects; without it those of the settings.",
        },
        operating_point=_or_null(_TEXT),
        pixel_spacing_mm=_or_null({**_NUMBER, "description": "Of grey crops (PNG, TIFF) for a nodule model."}),
    ),
    "Analysis": _object(
        "id status outcome created timing_ms model input quality findings objects delivery warnings disclaimer",
        id=_TEXT,
        status=_one_of("queued", "running", "completed", "failed"),
        outcome=_or_null(_one_of("positive", "negative", "graded", "ungradable", "out_of_scope", "no_region")),
        created={"type": "string", "format": "date-time"},
        timing_ms=_SHARES,
        model=_object("name", name=_TEXT, version=_TEXT, sha256=_TEXT, device_uid=_UID, card=_TEXT),
        input=_object(
            study=_UID,
            series=_UID,
            modality=_TEXT,
            instances=_list(_SLICE),
            laterality={**_TEXT, "description": "R or L; empty where it is not known."},
            laterality_source={
                **_or_null(_one_of("request", "header", "file_name", "disc")),
                "description": "What said so; null where it is not known. disc: the position of the optic disc.",
            },
            laterality_confidence={
                **_or_null(_NUMBER),
                "description": "Probability, 0 to 1, where the optic disc said so.",
            },
            checks=_list(_object(id=_TEXT, result=_one_of("pass", "warn", "fail"), value={}, limit={}, message=_TEXT)),
        ),
        quality=_or_null(
            _object(
                gradable=_FLAG,
                score=_NUMBER,
                code=_object(value=_TEXT, scheme=_TEXT, meaning=_TEXT),
                reasons=_list(_object(code=_TEXT, message=_TEXT, retake=_TEXT)),
            )
        ),
        findings=_list(_ref("Finding")),
        supersedes={
            **_or_null(_TEXT),
            "description": "Id of the analysis that this one replaces: slices or marks came late, or it was done again.",
        },
        superseded_by=_or_null(_TEXT),
        revision={
            "type": "integer",
            "description": "How often the DICOM objects were made anew after a reader's verdict; `objects` are the newest.",
        },
        objects=_list(
            _object(
                "kind sop_class_uid sop_instance_uid series_uid href validation",
                kind={**_one_of(*OBJECTS, "RN"), "description": "RN: the note that rejects what a revision replaced."},
                sop_class_uid=_UID,
                sop_instance_uid=_UID,
                series_uid=_UID,
                href=_TEXT,
                validation={
                    **_or_null(_object(validator=_or_null(_TEXT), errors={}, warnings={}, messages=_list(_TEXT))),
                    "description": "Verdict of dciodvfy; null where the object was not in the sample.",
                },
            )
        ),
        delivery=_list(_ref("Delivery")),
        warnings=_list(_TEXT),
        disclaimer=_TEXT,
        assessments=_list(_object(_VERDICT_KEYS, **_VERDICT)),
        error={**_ref("Problem"), "description": "When it failed."},
    ),
    "Again": _object(
        analysis={**_TEXT, "description": "The images of this analysis, and its request unless one is given."},
        study={**_UID, "description": "Study Instance UID, with `series`."},
        series=_UID,
        instances=_list(_UID, minItems=1, description="SOP Instance UIDs; without them the whole series."),
        request=_or_null(_ref("Request")),
    ),
    "Worklist": _object(
        "studies next counts",
        studies=_list(
            _object(
                "study key patient modalities series changed arriving analyses",
                study={**_or_null(_UID), "description": "null for a photograph without a DICOM header."},
                key={**_TEXT, "description": "Unique in the list: the study, or `analysis:<id>`."},
                patient=_object("name id birth_date sex", name=_TEXT, id=_TEXT, birth_date=_TEXT, sex=_TEXT),
                study_date={**_TEXT, "description": "DICOM form; empty when unknown, as are the others."},
                study_time=_TEXT,
                description=_TEXT,
                accession=_TEXT,
                modalities=_list(_TEXT),
                series=_list(
                    _object(
                        "series modality description instances",
                        series=_UID,
                        modality=_TEXT,
                        description=_TEXT,
                        instances={"type": "integer"},
                    ),
                    description="Of images: results and marks are left out.",
                ),
                changed={
                    "type": "string",
                    "format": "date-time",
                    "description": "When images came, an analysis was accepted, begun or ended, or its objects were made anew.",
                },
                arriving=_list(
                    _object(
                        "series modality instances waiting_for",
                        series=_UID,
                        modality=_TEXT,
                        instances={"type": "integer"},
                        waiting_for=_TEXT,
                    )
                ),
                analyses=_list(
                    _ref("ListedAnalysis"), description="Newest first; superseded ones only where there is no other."
                ),
            )
        ),
        next=_or_null(_TEXT),
        counts=_object(
            "queued running completed failed",
            queued={"type": "integer"},
            running={"type": "integer"},
            completed={"type": "integer"},
            failed={"type": "integer"},
        ),
    ),
    "ListedAnalysis": _object(
        "id status stage outcome created model series findings positive top files",
        id=_TEXT,
        status=_one_of("queued", "running", "completed", "failed"),
        stage={**_or_null(_TEXT), "description": "Of one that runs on the host that answers."},
        outcome=_or_null(_TEXT),
        created={"type": "string", "format": "date-time"},
        model=_object("name version", name=_TEXT, version=_or_null(_TEXT)),
        series=_UID,
        laterality=_TEXT,
        findings={"type": "integer"},
        positive={"type": "integer", "description": "Findings that the operating point calls positive."},
        top={
            **_or_null(
                _object(
                    "finding label probability grade decision",
                    finding=_TEXT,
                    label=_TEXT,
                    probability={**_NUMBER, "description": "Of the grade; of a nodule the operating point's score."},
                    grade=_or_null({"type": "integer"}),
                    decision=_one_of("positive", "negative"),
                )
            ),
            "description": "The grade, or the nodule with the highest score.",
        },
        gradable=_or_null(_FLAG),
        error=_or_null(_object("title detail status", title=_TEXT, detail=_TEXT, status={"type": "integer"})),
        assessed={"type": "integer", "description": "Findings with a verdict."},
        rejected={"type": "integer", "description": "Findings whose newest verdict is `rejected`."},
        supersedes=_or_null(_TEXT),
        superseded_by=_or_null(_TEXT),
        files={"type": "integer", "description": "Images it was made from."},
    ),
    "Eyes": _object(
        "study eyes worse_eye missing contradictions decision scheme caveats disclaimer",
        study=_UID,
        eyes=_list(
            _object(
                "laterality worst referable grades photographs",
                laterality={
                    **_or_null(_one_of("R", "L")),
                    "description": "null: not known which; only where there are any.",
                },
                worst={**_or_null(_TEXT), "description": "Analysis with the highest grade; null where none counts."},
                referable={**_or_null(_object(mtmDR=_FLAG, vtDR=_FLAG)), "description": "Of any of its photographs."},
                grades={**_list({"type": "integer"}), "description": "Those that count, ascending."},
                photographs=_list(_ref("EyePhotograph"), description="Newest first."),
            ),
            description="Right, left, and those of which it is not known.",
        ),
        worse_eye={**_or_null(_one_of("R", "L", "equal")), "description": "null while an eye has no grade."},
        missing=_list(
            _object(
                "eye code message advice analyses",
                eye=_or_null(_one_of("R", "L")),
                code=_one_of("no_photograph", "not_gradable", "rejected", "laterality_unknown", "unfinished", "failed"),
                message=_TEXT,
                advice={**_TEXT, "description": "What to do about it."},
                analyses=_list(_TEXT),
            )
        ),
        contradictions=_list(
            _object(
                "eye code message analyses",
                eye=_or_null(_one_of("R", "L")),
                code=_one_of("grades_apart", "grade_and_decision", "laterality"),
                message=_TEXT,
                analyses=_list(_TEXT),
            )
        ),
        decision=_object(
            "action text within_months because",
            action=_one_of("refer", "retake", "rescreen", "undecided"),
            text=_TEXT,
            within_months=_or_null({"type": "integer"}),
            because=_list(_TEXT),
        ),
        scheme=_object("name citation doi", name=_TEXT, citation=_TEXT, doi=_TEXT),
        caveats=_list(_TEXT),
        disclaimer=_TEXT,
    ),
    "EyePhotograph": _object(
        "analysis href sop_instance_uid created outcome quality answer model_grade verdict",
        analysis=_TEXT,
        href=_TEXT,
        sop_instance_uid=_SLICE,
        created={"type": "string", "format": "date-time"},
        outcome=_TEXT,
        laterality_source={**_or_null(_TEXT), "description": "request, header, file_name or disc; null where unknown."},
        laterality_confidence=_or_null(_NUMBER),
        quality=_object(
            "gradable score reasons",
            gradable=_FLAG,
            score=_NUMBER,
            reasons=_list(_object(code=_TEXT, message=_TEXT, retake=_TEXT)),
        ),
        answer={
            **_or_null(
                _object(
                    "grade label probability referable by",
                    grade={"type": "integer"},
                    label=_TEXT,
                    probability={
                        **_or_null(_NUMBER),
                        "description": "The model's; null where a reader gave the grade.",
                    },
                    referable=_object(mtmDR=_FLAG, vtDR=_FLAG),
                    by=_one_of("model", "reader"),
                )
            ),
            "description": "The grade that counts: a reader's before the model's; null where not gradable or rejected.",
        },
        model_grade={
            **_or_null({"type": "integer"}),
            "description": "What the model answered, whatever a reader said.",
        },
        verdict={
            **_or_null(
                _object(
                    "verdict value reader created",
                    verdict=_one_of(*VERDICTS),
                    value=_or_null(_TEXT),
                    reader=_or_null(_TEXT),
                    created=_TEXT,
                )
            ),
            "description": "The one that counts.",
        },
    ),
    "Finding": _FINDING,
    "AnalysisList": _object(
        "analyses next",
        analyses=_list(_object(id=_TEXT, href=_TEXT, status=_TEXT, created=_TEXT)),
        next=_or_null(_TEXT),
    ),
    "Similar": _object(
        "model sha256 data_set n distance cases share evidence",
        model=_TEXT,
        sha256={**_TEXT, "description": "Of the weights that gave the features."},
        data_set=_TEXT,
        n={"type": "integer", "description": "Known cases in all."},
        distance=_one_of("cosine"),
        cases=_list(
            _object(
                "id data_set split label truth distance same_image probabilities correct",
                id={**_TEXT, "description": "Public identifier."},
                data_set=_TEXT,
                split={
                    **_one_of(*SPLITS),
                    "description": "The model has learnt from those of `train`, so they look more alike than they are.",
                },
                label={**_TEXT, "description": "True class, or `indeterminate`."},
                truth=_object(
                    "text",
                    text=_TEXT,
                    readers={"type": "integer"},
                    votes=_list({"type": "integer"}),
                    mean=_NUMBER,
                    diameter_mm=_NUMBER,
                    grade={"type": "integer"},
                    attributes=_SHARES,
                ),
                distance={**_NUMBER, "description": "1 - cosine of the angle between the feature vectors."},
                same_image={**_FLAG, "description": "It is the analysed image itself."},
                probabilities={**_SHARES, "description": "The model's own answer for the case."},
                correct={**_or_null(_FLAG), "description": "Whether the answer is the label; null if indeterminate."},
            )
        ),
        share={**_SHARES, "description": "Share of each label among `cases`, without the analysed image itself."},
        evidence=_list(
            _object(
                "name value interval n data_set split formula date",
                name=_TEXT,
                value=_NUMBER,
                interval=_list(_NUMBER, minItems=2, maxItems=2),
                null={**_or_null(_NUMBER), "description": "The same figure of random cases."},
                n={"type": "integer"},
                data_set=_TEXT,
                split=_TEXT,
                formula=_TEXT,
                date=_TEXT,
            ),
            description="How well neighbours tell the truth of unseen patients.",
        ),
    ),
    "Delivery": _object(
        "id destination object kind state attempts last_error",
        id=_TEXT,
        destination=_TEXT,
        object={**_or_null(_UID), "description": "SOP Instance UID; null for a callback."},
        kind=_one_of(*OBJECTS, "RN", CALLBACK),
        state={
            **_one_of(*STATES),
            "description": "`superseded`: what it sends has been replaced; it is not sent any more.",
        },
        attempts={"type": "integer"},
        last_error=_or_null(_TEXT),
        due={**_or_null(_TEXT), "description": "When it is tried next."},
        changed=_TEXT,
        analysis=_TEXT,
        created=_TEXT,
    ),
    "DeliveryList": _object("deliveries", deliveries=_list(_ref("Delivery"))),
    "Replay": _object(destination={**_TEXT, "description": "Only of this destination."}),
    "Waiting": _object("waiting", waiting={"type": "integer"}),
    "Assessment": _object(
        "finding verdict",
        finding=_TEXT,
        verdict=_one_of(*VERDICTS),
        value={
            **_or_null({**_TEXT, "maxLength": 256}),
            "description": "What is right, where the verdict is `modified`: one of the model's classes, or `not_a_nodule`.",
        },
        reason=_or_null({**_TEXT, "maxLength": 2000}),
        reader={
            **_or_null({**_TEXT, "minLength": 1, "maxLength": 64}),
            "description": "Who judged; without it the name of the token.",
        },
    ),
    "AssessmentList": _object(
        "assessments next",
        assessments=_list(
            _object(
                f"{_VERDICT_KEYS} current analysis study outcome label answered probabilities decision grade finding_origin",
                **_VERDICT,
                current={**_FLAG, "description": "No later verdict is on the same finding."},
                analysis=_TEXT,
                study=_UID,
                outcome=_or_null(_TEXT),
                label=_or_null(_TEXT),
                answered={**_or_null(_TEXT), "description": "The class that the model had answered."},
                probabilities=_or_null(_SHARES),
                decision={**_or_null(_one_of("positive", "negative")), "description": "At the operating point."},
                grade=_or_null({"type": "integer"}),
                finding_origin={**_or_null(_TEXT), "description": "Who named the place of a nodule."},
            )
        ),
        next=_or_null(_TEXT),
    ),
    "Agreement": _object(
        "by models unassessed",
        by=_one_of(*get_args(Period)),
        models=_list(
            _object(
                f"name version {_TALLY_KEYS} periods by_decision corrections",
                name=_TEXT,
                version=_or_null(_TEXT),
                **_TALLY,
                periods=_list(_object(f"start {_TALLY_KEYS}", start={**_TEXT, "format": "date"}, **_TALLY)),
                by_decision=_object(
                    "positive negative",
                    positive=_object(_TALLY_KEYS, **_TALLY),
                    negative=_object(_TALLY_KEYS, **_TALLY),
                ),
                corrections=_list(
                    _object(
                        "answered corrected n",
                        answered=_or_null(_TEXT),
                        corrected=_or_null(_TEXT),
                        n={"type": "integer"},
                    )
                ),
            )
        ),
        unassessed={
            "type": "integer",
            "description": "Findings without a verdict, of completed analyses made in this time and not superseded.",
        },
    ),
    "Outline": _object(
        "class share slices",
        **{"class": {**_TEXT, "description": "The answered class."}},
        share={**_NUMBER, "description": "Of the peak, that every pixel of the region reaches."},
        size_px={**_list({"type": "integer"}), "description": "Columns and rows of the source images."},
        in_segmentation={**_FLAG, "description": "Whether the DICOM segmentation holds it: grade 0 is in none."},
        slices=_list(
            _object(
                "index sop_instance_uid area_px area_mm2 polygons",
                index={
                    "type": "integer",
                    "description": "Into the finding's slices; those that it does not reach are missing.",
                },
                sop_instance_uid=_SLICE,
                area_px={"type": "integer"},
                area_mm2=_or_null(_NUMBER),
                polygons={
                    **_list(_list(_list({"type": "integer"}, minItems=2, maxItems=2))),
                    "description": "Closed rings of [x, y] with pixel k from k to k + 1; fill by the even-odd rule. "
                    "With y downwards outer rings run clockwise, holes counter-clockwise.",
                },
            )
        ),
    ),
    "ResponseMaps": _object(
        "shape classes box_px sources peak_slice scale",
        shape={**_list({"type": "integer"}), "description": "Slices, classes, rows, columns."},
        classes=_list(_TEXT),
        box_px={
            **_list(_list(_NUMBER)),
            "description": "x0, y0, x1, y1 of each slice's map in the source image, pixel k from k to k + 1.",
        },
        sources=_list(_SLICE),
        peak_slice={"type": "integer"},
        scale=_object(
            "per_image per_model",
            per_image={**_NUMBER, "description": "Pictures show sqrt(response / scale), clipped to 0..1."},
            per_model=_NUMBER,
        ),
    ),
    "Faithfulness": _object(
        "steps fraction deletion insertion random class filler slice",
        steps={"type": "integer"},
        fraction={**_list(_NUMBER), "description": "Of the patches that can change, at each point of the curves."},
        deletion=_object("curve auc", curve=_list(_NUMBER), auc=_NUMBER),
        insertion=_object("curve auc", curve=_list(_NUMBER), auc=_NUMBER),
        random=_object(
            "n deletion_auc insertion_auc deletion insertion",
            n={"type": "integer"},
            deletion_auc=_object("mean sd", mean=_NUMBER, sd=_NUMBER),
            insertion_auc=_object("mean sd", mean=_NUMBER, sd=_NUMBER),
            deletion={**_list(_NUMBER), "description": "Mean curve."},
            insertion={**_list(_NUMBER), "description": "Mean curve."},
        ),
        **{"class": {**_TEXT, "description": "The answered class, whose probability the curves show."}},
        filler={**_TEXT, "description": "What removed patches are filled with."},
        slice={"type": "integer", "description": "The one where the class responds most; p is of it alone."},
        patch_px={"type": "integer", "description": "Side of a patch in pixels of the network."},
        patches={"type": "integer"},
        method={"type": "integer"},
    ),
    "Evidence": _object(
        "model version metrics evidence limits_of_use training calibration",
        model=_TEXT,
        version=_TEXT,
        sha256=_TEXT,
        metrics=_list(
            _object(
                "name value interval n data_set split date",
                name=_TEXT,
                value=_NUMBER,
                interval=_list(_NUMBER),
                n={"type": "integer"},
                data_set=_TEXT,
                split=_TEXT,
                date=_TEXT,
            )
        ),
        evidence=_list(
            _object(
                "name value n data_set formula",
                name=_TEXT,
                value=_NUMBER,
                null=_NUMBER,
                n={"type": "integer"},
                data_set=_TEXT,
                formula=_TEXT,
            )
        ),
        limits_of_use=_list(_TEXT),
        training=_ref("Anything"),
        calibration=_ref("Anything"),
    ),
    "InferenceRequest": _object(
        "inputs",
        id=_TEXT,
        inputs=_list(
            _object(
                "name shape datatype data",
                name=_one_of("image"),
                shape=_list({"type": "integer"}),
                datatype=_one_of("FP32"),
                data=_list({}),
            )
        ),
        outputs=_list(_object("name", name=_TEXT)),
    ),
    "Inference": _object(
        "model_name outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        outputs=_list(_object(name=_TEXT, shape=_list({"type": "integer"}), datatype=_TEXT, data=_list(_NUMBER))),
    ),
    "Health": _object(
        "status checks", status=_one_of("pass", "fail"), checks=_list(_object(check=_TEXT, result=_TEXT, detail=_TEXT))
    ),
    "Problem": _object(
        "type title status detail",
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT,
        instance=_TEXT,
        errors=_list(_object(where=_TEXT, message=_TEXT, value={}, limit={})),
    ),
    "Text": _TEXT,
    "Anything": {"type": "object"},
}


def outline(schema: dict[str, Any], indent: str = "") -> str:
    """A schema in few words, for people."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "oneOf" in schema:
        return " | ".join(outline(part, indent) for part in schema["oneOf"])
    if schema.get("type") == "array":
        return f"list of {outline(schema['items'], indent)}"
    if "properties" in schema:
        required = schema.get("required", [])
        rows = [
            f"{indent}  {name}{'' if name in required else '?'}: {outline(part, indent + '  ')}"
            for name, part in schema["properties"].items()
        ]
        return "{\n" + "\n".join(rows) + f"\n{indent}}}"
    if "additionalProperties" in schema:
        return f"map of {outline(schema['additionalProperties'], indent)}"
    return str(schema.get("type", "anything"))
