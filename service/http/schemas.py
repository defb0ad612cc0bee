"""JSON schemas of the bodies, part of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.pipeline.request import MAPS, MAX_REGIONS, OBJECTS
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
            laterality=_TEXT,
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
            "description": "Id of the analysis that this one replaces: slices or marks came late.",
        },
        superseded_by=_or_null(_TEXT),
        objects=_list(
            _object(
                "kind sop_class_uid sop_instance_uid series_uid href validation",
                kind=_one_of(*OBJECTS),
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
        assessments=_list(
            _object(finding=_TEXT, verdict=_TEXT, value=_or_null(_TEXT), reason=_or_null(_TEXT), created=_TEXT)
        ),
        error={**_ref("Problem"), "description": "When it failed."},
    ),
    "Finding": _FINDING,
    "AnalysisList": _object(
        "analyses next",
        analyses=_list(_object(id=_TEXT, href=_TEXT, status=_TEXT, created=_TEXT)),
        next=_or_null(_TEXT),
    ),
    "Delivery": _object(
        "id destination object kind state attempts last_error",
        id=_TEXT,
        destination=_TEXT,
        object={**_or_null(_UID), "description": "SOP Instance UID; null for a callback."},
        kind=_one_of(*OBJECTS, CALLBACK),
        state=_one_of(*STATES),
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
        "finding verdict", finding=_TEXT, verdict=_one_of("accepted", "rejected", "modified"), value=_TEXT, reason=_TEXT
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
