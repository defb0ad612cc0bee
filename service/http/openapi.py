"""The interface's description, ``/openapi.json``. A test compares it with the routes that exist."""

from __future__ import annotations

from typing import Any, get_args

from flask import Blueprint, Response, jsonify

from service import __version__
from service.http import schemas
from service.http.worklist import OUTCOMES, STATUSES
from service.store.agreement import VERDICTS, Period
from service.store.deliveries import STATES

blueprint = Blueprint("openapi", __name__)


def _answer(text: str, schema: str | None = None, media: str = "application/json") -> dict[str, Any]:
    if schema is None and media == "application/json":
        return {"description": text}
    body = {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "string", "format": "binary"}
    return {"description": text, "content": {media: {"schema": body}}}


def _parameter(name: str, place: str, text: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": text,
        "schema": schema or {"type": "string"},
    }


def _operation(
    identity: str,
    summary: str,
    answers: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": identity, "summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = body
    operation["responses"] = {**answers, "default": {"$ref": "#/components/responses/Problem"}}
    return operation


def _json_body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


_ID = _parameter("analysis", "path", "Id of the analysis.")
_FINDING = _parameter("finding", "path", "Id of the finding: the region's id, or `eye`, or `nodule`.")
_KIND = _parameter("kind", "path", "`clear`, `two-sided` or `class-<name>`.")
_MODEL = _parameter("name", "path", "Name of the model, e.g. `sisc_lung`.")

_UPLOAD = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "DICOM Part 10 instances, PNG, JPEG or TIFF files, or a ZIP of these.",
                    },
                    "request": {"$ref": "#/components/schemas/Request"},
                },
            },
            "encoding": {"request": {"contentType": "application/json"}},
        },
        "application/json": {"schema": {"$ref": "#/components/schemas/Again"}},
    },
}


def _analyses() -> dict[str, Any]:
    root = "/api/v1/analyses"
    filters = [_parameter(name, "query", f"Exact {name}.") for name in ("patient", "study", "status", "model")]
    return {
        root: {
            "post": _operation(
                "createAnalysis",
                "Send images for analysis, or with JSON name some that are here: an analysis (without a request it is done "
                "again and replaced) or a series. Ungradable and out-of-scope inputs are answers (outcome), not errors.",
                {
                    "200": _answer("Done.", "Analysis"),
                    "202": _answer("Accepted; Location says where the result will be.", "Analysis"),
                },
                [
                    _parameter(
                        "Idempotency-Key",
                        "header",
                        "The same key and content give the same analysis; other content is 409.",
                    ),
                    _parameter("Prefer", "header", "`respond-async`: answer 202 at once."),
                ],
                _UPLOAD,
            ),
            "get": _operation(
                "listAnalyses",
                "Analyses, newest first.",
                {"200": _answer("One page; `next` is the cursor of the next one or null.", "AnalysisList")},
                [
                    *filters,
                    _parameter(
                        "since", "query", "ISO 8601 time; older ones are left out.", type="string", format="date-time"
                    ),
                    _parameter("cursor", "query", "`next` of the page before."),
                    _parameter(
                        "limit", "query", "Rows of one page.", type="integer", minimum=1, maximum=500, default=50
                    ),
                ],
            ),
        },
        f"{root}/{{analysis}}": {
            "get": _operation("getAnalysis", "One analysis.", {"200": _answer("The analysis.", "Analysis")}, [_ID]),
            "delete": _operation(
                "deleteAnalysis",
                "Delete an analysis with its maps, and its images unless another analysis uses them.",
                {"204": _answer("Deleted.")},
                [_ID],
            ),
        },
        f"{root}/{{analysis}}/events": {
            "get": _operation(
                "followAnalysis",
                "Server-sent events: one `status` event {id, status, stage} at every change until the end.",
                {"200": _answer("The stream.", None, "text/event-stream")},
                [_ID],
            )
        },
        f"{root}/{{analysis}}/maps/{{finding}}/{{kind}}.png": {
            "get": _operation(
                "getMapPicture",
                "A response map as a picture.",
                {"200": _answer("The picture.", None, "image/png")},
                [
                    _ID,
                    _FINDING,
                    _KIND,
                    _parameter(
                        "overlay",
                        "query",
                        "Opacity over the image; without it the bare map.",
                        type="number",
                        minimum=0,
                        maximum=1,
                    ),
                    _parameter(
                        "scale",
                        "query",
                        "`per_image`, or `per_model` to compare patients.",
                        type="string",
                        enum=["per_image", "per_model"],
                    ),
                    _parameter("legend", "query", "1 adds a legend.", type="integer", enum=[0, 1]),
                    _parameter(
                        "slice",
                        "query",
                        "Index into the finding's slices; without it the one with the peak.",
                        type="integer",
                        minimum=0,
                    ),
                    _parameter(
                        "size", "query", "Longer side, px.", type="integer", minimum=64, maximum=2048, default=768
                    ),
                ],
            )
        },
        f"{root}/{{analysis}}/maps/{{finding}}/{{kind}}.npz": {
            "get": _operation(
                "getMapArrays",
                "A response map as arrays, for numpy.load.",
                {"200": _answer("The arrays.", None, "application/x-npz")},
                [_ID, _FINDING, _KIND],
            )
        },
        f"{root}/{{analysis}}/objects/{{kind}}": {
            "get": _operation(
                "getObject",
                "A DICOM object of the result, as a Part 10 file.",
                {"200": _answer("The file.", None, "application/dicom")},
                [
                    _ID,
                    _parameter(
                        "kind", "path", "Kind of object.", type="string", enum=["SR", "SEG", "PM", "SC", "KOS", "RN"]
                    ),
                ],
            )
        },
    }


def _assessments() -> dict[str, Any]:
    root = "/api/v1/assessments"
    model = _parameter("model", "query", "Exact name of a model.")
    time = [
        _parameter("since", "query", "ISO 8601 time; older verdicts are left out.", type="string", format="date-time"),
        _parameter(
            "until", "query", "ISO 8601 time; verdicts from then on are left out.", type="string", format="date-time"
        ),
    ]
    filters = [
        model,
        _parameter("version", "query", "Exact version of the model."),
        _parameter("verdict", "query", "Exact verdict.", type="string", enum=list(VERDICTS)),
        _parameter("reader", "query", "Exact name of the reader."),
        *time,
    ]
    return {
        "/api/v1/analyses/{analysis}/assessment": {
            "post": _operation(
                "assessFinding",
                "Store a reader's verdict on a finding. The newest of a finding counts, older ones are kept.",
                {"200": _answer("The analysis.", "Analysis")},
                [_ID],
                _json_body("Assessment"),
            )
        },
        root: {
            "get": _operation(
                "listAssessments",
                "Verdicts with what they are about, newest first.",
                {"200": _answer("One page; `next` is the cursor of the next one or null.", "AssessmentList")},
                [
                    *filters,
                    _parameter("cursor", "query", "`next` of the page before."),
                    _parameter(
                        "limit", "query", "Rows of one page.", type="integer", minimum=1, maximum=500, default=50
                    ),
                ],
            )
        },
        f"{root}.csv": {
            "get": _operation(
                "exportAssessments",
                "All verdicts as a table (RFC 4180), newest first.",
                {"200": _answer("The table, with a header.", "Text", "text/csv")},
                filters,
            )
        },
        f"{root}/agreement": {
            "get": _operation(
                "getAgreement",
                "How far readers agree with each model. Only the newest verdict of a finding counts.",
                {"200": _answer("Counts, and shares with their n and interval.", "Agreement")},
                [
                    _parameter(
                        "by",
                        "query",
                        "Length of a period, by the time of the verdict in UTC; weeks begin on Monday.",
                        type="string",
                        enum=list(get_args(Period)),
                        default="month",
                    ),
                    model,
                    *time,
                ],
            )
        },
    }


def _findings() -> dict[str, Any]:
    root = "/api/v1/analyses/{analysis}/findings/{finding}"
    kept = {"304": _answer("Unchanged since the answer with the ETag in If-None-Match.")}
    known = _parameter("If-None-Match", "header", "ETag of the answer that is known.")

    def get(
        identity: str,
        summary: str,
        media: str,
        parameters: list[dict[str, Any]],
        schema: str | None = None,
        headers: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        answer = _answer("The answer.", schema, media)
        if headers:
            answer["headers"] = headers
        return {"get": _operation(identity, summary, {"200": answer, **kept}, [_ID, *parameters, known])}

    picture = [
        _parameter("number", "path", "Index into `input.instances`, from 0.", type="integer", minimum=0),
        _parameter(
            "size", "query", "Longer side, px; at most that of the image.", type="integer", minimum=16, maximum=8192
        ),
        _parameter(
            "view",
            "query",
            "`red_free`: the green channel as grey.",
            type="string",
            enum=["natural", "red_free"],
            default="natural",
        ),
    ]
    return {
        f"{root}/window.png": get(
            "getWindow",
            "What the network saw of one slice, after all preprocessing.",
            "image/png",
            [
                _FINDING,
                _parameter(
                    "slice",
                    "query",
                    "Index into the finding's slices; without it the one with the peak.",
                    type="integer",
                    minimum=0,
                ),
                _parameter(
                    "size",
                    "query",
                    "Side, px; without it one pixel of the network is one of the picture.",
                    type="integer",
                    minimum=16,
                    maximum=2048,
                ),
            ],
        ),
        f"{root}/region.json": get(
            "getRegion",
            "The exact outline of the critical region, in pixels of the source images.",
            "application/json",
            [_FINDING],
            "Outline",
        ),
        f"{root}/response.bin": get(
            "getResponse",
            "The response maps of all slices and classes as bare little-endian float32 in C order, for drawing.",
            "application/octet-stream",
            [_FINDING],
            headers={
                "X-Pellucid-Map": {
                    "description": "What the numbers are.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ResponseMaps"}}},
                }
            },
        ),
        f"{root}/faithfulness": get(
            "getFaithfulness",
            "Deletion and insertion curves of the answered class beside random orders. Takes seconds the first time; 503 while "
            "another one is measured.",
            "application/json",
            [_FINDING],
            "Faithfulness",
        ),
        "/api/v1/analyses/{analysis}/images/{number}.jpg": get(
            "getImageAsJpeg", "A source image as JPEG; of CT in a lung window.", "image/jpeg", picture
        ),
        "/api/v1/analyses/{analysis}/images/{number}.png": get(
            "getImageAsPng", "A source image as PNG; of CT in a lung window.", "image/png", picture
        ),
    }


def _similar() -> dict[str, Any]:
    return {
        "/api/v1/analyses/{analysis}/findings/{finding}/similar": {
            "get": _operation(
                "findSimilarCases",
                "The known public cases with the most similar features and their truth; never another one of the same patient.",
                {"200": _answer("The nearest first.", "Similar")},
                [
                    _ID,
                    _FINDING,
                    _parameter("k", "query", "How many.", type="integer", minimum=1, maximum=50, default=6),
                ],
            )
        }
    }


def _list_of_studies() -> dict[str, Any]:
    analysis = "of an analysis that is not superseded"
    return {
        "/api/v1/worklist": {
            "get": _operation(
                "getWorklist",
                "Studies and photographs with what was answered, the latest event first.",
                {
                    "200": _answer("One page; `next` is the cursor of the next one or null.", "Worklist"),
                    "304": _answer("Nothing has changed since the answer with the ETag in If-None-Match."),
                },
                [
                    _parameter(
                        "q",
                        "query",
                        "Words, each of which stands in the patient's name or ID, the accession number, the study's "
                        "description or UID, or begins the id of an analysis.",
                    ),
                    _parameter(
                        "status",
                        "query",
                        f"Status {analysis}; `arriving`: images are awaited; `none`: nothing was analysed.",
                        type="string",
                        enum=list(STATUSES),
                    ),
                    _parameter("outcome", "query", f"Outcome {analysis}.", type="string", enum=list(OUTCOMES)),
                    _parameter("model", "query", f"Model {analysis}."),
                    _parameter("modality", "query", "Modality of one of the study's series."),
                    _parameter(
                        "since",
                        "query",
                        "ISO 8601 time; what changed before is left out.",
                        type="string",
                        format="date-time",
                    ),
                    _parameter(
                        "until",
                        "query",
                        "ISO 8601 time; what changed then or later is left out.",
                        type="string",
                        format="date-time",
                    ),
                    _parameter("cursor", "query", "`next` of the page before."),
                    _parameter(
                        "limit", "query", "Studies of one page.", type="integer", minimum=1, maximum=200, default=50
                    ),
                    _parameter("If-None-Match", "header", "ETag of the answer that is known."),
                ],
            )
        }
    }


def _eyes() -> dict[str, Any]:
    return {
        "/api/v1/studies/{study}/eyes": {
            "get": _operation(
                "getEyes",
                "Both eyes of a patient: the worst grade of each, what is missing, what contradicts, and what a screening scheme "
                "advises. Research use only.",
                {
                    "200": _answer("The summary, as analyses and verdicts are now.", "Eyes"),
                    "304": _answer("Nothing has changed since the answer with the ETag in If-None-Match."),
                },
                [
                    _parameter("study", "path", "Study Instance UID."),
                    _parameter("If-None-Match", "header", "ETag of the answer that is known."),
                ],
            )
        }
    }


def _deliveries() -> dict[str, Any]:
    root = "/api/v1/deliveries"
    again = {"202": _answer("How many wait to be sent now.", "Waiting")}
    return {
        root: {
            "get": _operation(
                "listDeliveries",
                "What is on its way to which destination, what arrived, what was set aside; the latest change first.",
                {"200": _answer("Deliveries.", "DeliveryList")},
                [
                    _parameter("destination", "query", "Exact name."),
                    _parameter("analysis", "query", "Id of an analysis."),
                    _parameter("state", "query", "`dead` is what was set aside.", type="string", enum=list(STATES)),
                    _parameter("limit", "query", "Rows.", type="integer", minimum=1, maximum=1000, default=100),
                ],
            )
        },
        f"{root}/{{delivery}}/replay": {
            "post": _operation(
                "replayDelivery",
                "Send one delivery again.",
                again,
                [_parameter("delivery", "path", "Id of the delivery.")],
            )
        },
        f"{root}/replay": {
            "post": _operation(
                "replayDeliveries",
                "Send again all that was set aside, of one destination or of all.",
                again,
                body=_json_body("Replay"),
            )
        },
        "/api/v1/rejected": {
            "get": _operation(
                "listRejected",
                "What was acknowledged and could not be filed: another instance with its UID is here already.",
                {"200": _answer("The latest first; `sha256` names the content in the data folder.", "Anything")},
            )
        },
        "/api/v1/series": {
            "get": _operation(
                "listOpenSeries",
                "Series that came through a DICOM door and are not complete yet, with what each waits for.",
                {"200": _answer("Open series.", "Anything")},
            )
        },
    }


def _models() -> dict[str, Any]:
    def get(
        identity: str, summary: str, schema: str = "Anything", media: str = "application/json", model: bool = True
    ) -> dict[str, Any]:
        return {
            "get": _operation(
                identity, summary, {"200": _answer("The answer.", schema, media)}, [_MODEL] if model else None
            )
        }

    root = "/v2/models/{name}"
    return {
        "/v2": get("getServer", "Server metadata, and the names of the models.", model=False),
        "/v2/health/live": get("getLive", "The process answers. Needs no token.", model=False),
        "/v2/health/ready": get(
            "getReady", "Models are loaded and analyses are taken up; 503 if not. Needs no token.", model=False
        ),
        root: get(
            "getModel",
            "Model metadata by the Open Inference Protocol; `parameters` holds classes, version, hash, limits of use.",
        ),
        f"{root}/ready": get("getModelReady", "Whether the model can be used."),
        f"{root}/card": get(
            "getModelCard", "The model card as Markdown, or as a page with Accept: text/html.", "Text", "text/markdown"
        ),
        f"{root}/operating-points": get(
            "getOperatingPoints", "Decision thresholds with sensitivity, specificity, n and data set."
        ),
        f"{root}/evidence": get(
            "getModelEvidence",
            "What was measured of the model, with n and 95 % intervals, its limits of use, training data and calibration.",
            "Evidence",
        ),
        f"{root}/stats": get("getModelStats", "What the model did since the start."),
        f"{root}/infer": {
            "post": _operation(
                "infer",
                "Run the model on a tensor of preprocessed images (Open Inference Protocol).",
                {"200": _answer("The outputs.", "Inference")},
                [_MODEL],
                _json_body("InferenceRequest"),
            )
        },
    }


def _rest() -> dict[str, Any]:
    def page(identity: str, summary: str, media: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        return {"get": _operation(identity, summary, {"200": _answer("The answer.", None, media)}, parameters)}

    return {
        "/": {"get": _operation("frontDoor", "To the viewer.", {"302": _answer("See /viewer/.")})},
        "/health": {
            "get": _operation(
                "getHealth",
                "Health by dependency; 503 when one fails. Needs no token.",
                {"200": _answer("All pass.", "Health")},
            )
        },
        "/conformance": page("getConformance", "DICOM conformance statement.", "text/markdown"),
        "/metrics": page("getMetrics", "Prometheus metrics.", "text/plain"),
        "/openapi.json": page("getOpenApi", "This document.", "application/json"),
        "/docs": page("getDocs", "This document for people.", "text/html"),
        "/docs/style.css": page("getDocsStyle", "Style of the plain pages.", "text/css"),
        "/viewer/": page("getViewer", "The viewer.", "text/html"),
        "/viewer/{name}": page(
            "getViewerFile", "A file of the viewer.", "application/octet-stream", [_parameter("name", "path", "File.")]
        ),
    }


def _dicomweb() -> dict[str, Any]:
    uids = [
        _parameter(name, "path", f"{text} Instance UID.")
        for name, text in (("study", "Study"), ("series", "Series"), ("sop", "SOP"))
    ]
    in_study = "/dicomweb/studies/{study}"
    in_series = f"{in_study}/series/{{series}}"
    in_instance = f"{in_series}/instances/{{sop}}"
    numbers = _parameter("numbers", "path", "Frame numbers from 1, e.g. `1,2`.")
    number = _parameter("number", "path", "Frame number from 1.")
    search = [
        _parameter("limit", "query", "Results of one answer.", type="integer", minimum=0, maximum=1000),
        _parameter("offset", "query", "Results to leave out.", type="integer", minimum=0, default=0),
        _parameter("includefield", "query", "Attributes to add: keywords or tags, or `all`."),
        _parameter("fuzzymatching", "query", "`true`: names match by the beginnings of their words."),
        _parameter("PatientID", "query", "Any attribute by keyword or tag is a matching key."),
    ]
    picture = [
        _parameter("window", "query", "`center,width`; of CT a lung window without it."),
        _parameter("viewport", "query", "`width,height` in px, and if wanted `left,top,width,height` of a region."),
        _parameter("quality", "query", "Of a JPEG, 1 to 100.", type="integer", minimum=1, maximum=100),
    ]

    def get(identity: str, summary: str, media: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        return {"get": _operation(identity, summary, {"200": _answer("The answer.", None, media)}, parameters)}

    def post(identity: str, summary: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        answers = {
            "200": _answer("All are stored.", None, "application/dicom+json"),
            "202": _answer(
                "Some are stored; Failed SOP Sequence says which not and why.", None, "application/dicom+json"
            ),
            "409": _answer("None is stored.", None, "application/dicom+json"),
        }
        part = {"schema": {"type": "string", "format": "binary"}}
        body = {
            "required": True,
            "content": {'multipart/related; type="application/dicom"': part, "application/dicom": part},
        }
        return {"post": _operation(identity, summary, answers, parameters, body)}

    json, dicom = "application/dicom+json", 'multipart/related; type="application/dicom"'
    octets = 'multipart/related; type="application/octet-stream"'
    return {
        "/dicomweb/studies": {
            **get("searchStudies", "Search for studies (QIDO-RS).", json, search),
            **post("storeInstances", "Store instances (STOW-RS)."),
        },
        "/dicomweb/series": get("searchSeries", "Search for series (QIDO-RS).", json, search),
        "/dicomweb/instances": get("searchInstances", "Search for instances (QIDO-RS).", json, search),
        in_study: {
            **get("retrieveStudy", "The instances of a study (WADO-RS).", dicom, uids[:1]),
            **post("storeInStudy", "Store instances of one study (STOW-RS).", uids[:1]),
        },
        f"{in_study}/series": get("searchStudySeries", "Search in a study for series.", json, [*uids[:1], *search]),
        f"{in_study}/instances": get("searchStudyInstances", "Search in a study.", json, [*uids[:1], *search]),
        f"{in_study}/metadata": get("retrieveStudyMetadata", "Metadata of a study.", json, uids[:1]),
        f"{in_study}/thumbnail": get("studyThumbnail", "A small picture of a study.", "image/jpeg", uids[:1]),
        in_series: get("retrieveSeries", "The instances of a series (WADO-RS).", dicom, uids[:2]),
        f"{in_series}/instances": get("searchSeriesInstances", "Search in a series.", json, [*uids[:2], *search]),
        f"{in_series}/metadata": get("retrieveSeriesMetadata", "Metadata of a series.", json, uids[:2]),
        f"{in_series}/thumbnail": get("seriesThumbnail", "A small picture of a series.", "image/jpeg", uids[:2]),
        in_instance: get("retrieveInstance", "An instance (WADO-RS), also as a single part.", dicom, uids),
        f"{in_instance}/metadata": get("retrieveInstanceMetadata", "Metadata of an instance.", json, uids),
        f"{in_instance}/bulkdata/{{path}}": get(
            "retrieveBulkdata",
            "One value that the metadata refer to.",
            octets,
            [*uids, _parameter("path", "path", "Tag, or tag/item/tag.")],
        ),
        f"{in_instance}/frames/{{numbers}}": get(
            "retrieveFrames", "Frames, decoded or as they are stored.", octets, [*uids, numbers]
        ),
        f"{in_instance}/frames/{{number}}/rendered": get(
            "getRenderedFrame", "A frame as a picture.", "image/png", [*uids, number, *picture]
        ),
        f"{in_instance}/frames/{{number}}/thumbnail": get(
            "frameThumbnail", "A small picture of a frame.", "image/jpeg", [*uids, number]
        ),
        f"{in_instance}/rendered": get(
            "getRendered", "An instance as a picture; of several frames the first.", "image/png", [*uids, *picture]
        ),
        f"{in_instance}/thumbnail": get("instanceThumbnail", "A small picture of an instance.", "image/jpeg", uids),
    }


def _worklist() -> dict[str, Any]:
    media = "application/dicom+json"
    uid = _parameter("uid", "path", "UID of the work item, or a well-known one of the worklist.")
    ae = _parameter("aetitle", "path", "AE title of the subscriber.")
    item = "/dicomweb/workitems/{uid}"
    body = {"required": True, "content": {media: {"schema": {"type": "array", "items": {"type": "object"}}}}}

    def does(
        identity: str, summary: str, code: str, *parameters: dict[str, Any], sends: bool = False
    ) -> dict[str, Any]:
        return _operation(identity, summary, {code: _answer("Done.")}, list(parameters), body if sends else None)

    keys = [
        _parameter("limit", "query", "Results of one answer.", type="integer", minimum=0, maximum=500),
        _parameter("offset", "query", "Results to leave out.", type="integer", minimum=0, default=0),
        _parameter("includefield", "query", "Attributes to add: keywords or tags, or `all`."),
        _parameter("fuzzymatching", "query", "`true`: names match by the beginnings of their words."),
        _parameter("ProcedureStepState", "query", "Any attribute by keyword or tag is a matching key."),
    ]
    found = {
        "200": _answer("The matches.", None, media),
        "204": _answer("Nothing matches."),
        "206": _answer("Some of the matches; ask for the others with offset.", None, media),
    }
    return {
        "/dicomweb/workitems": {
            "get": _operation("searchWorkitems", "Search for work items (UPS-RS).", found, keys),
            "post": does(
                "createWorkitem",
                "Add a work item; its UID is the query (`?1.2.3`), or in the data set, or made here.",
                "201",
                _parameter("workitem", "query", "UID, as an alternative to `?UID`."),
                sends=True,
            ),
        },
        item: {
            "get": _operation("getWorkitem", "A work item.", {"200": _answer("It.", None, media)}, [uid]),
            "post": does(
                "updateWorkitem",
                "Set attributes of a work item.",
                "200",
                uid,
                _parameter("transaction-uid", "query", "Of who claimed it; `?UID` alone is the same."),
                sends=True,
            ),
        },
        f"{item}/state": {"put": does("changeWorkitemState", "Claim, complete or cancel.", "200", uid, sends=True)},
        f"{item}/cancelrequest": {
            "post": {
                **does("cancelWorkitem", "Ask for cancellation.", "202", uid),
                "requestBody": {**body, "required": False},
            }
        },
        f"{item}/subscribers/{{aetitle}}": {
            "post": does(
                "subscribe",
                "Have an AE told of a work item, of all (1.2.840.10008.5.1.4.34.5) or of those that match (…34.5.1).",
                "201",
                uid,
                ae,
                _parameter("deletionlock", "query", "`true`: they stay until the subscription ends."),
                _parameter("filter", "query", "With …34.5.1: `attribute=value` pairs, separated by commas."),
            ),
            "delete": does("unsubscribe", "End a subscription.", "200", uid, ae),
        },
        f"{item}/subscribers/{{aetitle}}/suspend": {
            "post": does("suspendSubscription", "No longer subscribe to new work items.", "200", uid, ae)
        },
        "/dicomweb/subscribers/{aetitle}/events": {
            "get": _operation(
                "followWorkitems",
                "Event reports (PS3.18 11.13) as server-sent events `report`; Last-Event-ID goes on behind that one.",
                {"200": _answer("The stream.", None, "text/event-stream")},
                [ae],
            )
        },
    }


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document; lists every route of the application."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pellucid",
            "version": __version__,
            "description": "Predictions with response maps for chest CT and fundus photographs. Research use only.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": {
            **_analyses(),
            **_list_of_studies(),
            **_eyes(),
            **_assessments(),
            **_findings(),
            **_similar(),
            **_deliveries(),
            **_models(),
            **_dicomweb(),
            **_worklist(),
            **_rest(),
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The token is the password."},
            },
            "responses": {"Problem": _answer("An error (RFC 9457).", "Problem", "application/problem+json")},
            "schemas": schemas.SCHEMAS,
        },
    }


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    """The document."""
    return jsonify(document())
