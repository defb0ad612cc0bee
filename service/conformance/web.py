"""The DICOMweb side: transactions, search keys, representations, failure reasons, as origin server and as user agent."""

from __future__ import annotations

from pydicom.datadict import dictionary_VR

from service.config import Settings
from service.conformance.network import outcome
from service.conformance.tables import element, size, status, table, uid
from service.delivery import stow as user_agent
from service.delivery import web
from service.http import openapi
from service.http.dicomweb import frames, negotiate, qido, rendered, stow
from service.http.workitems import payload, subscribers
from service.http.workitems import search as worklist
from service.intake.attributes import KEYWORDS
from service.pipeline import orders, performer
from service.store import search

ROOT = "/dicomweb"
WORKLIST = (f"{ROOT}/workitems", f"{ROOT}/subscribers")
COMPUTED = search.tags(
    "ModalitiesInStudy SOPClassesInStudy NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances "
    "NumberOfSeriesRelatedInstances RetrieveURL InstanceAvailability"
)
"""Attributes of an answer that are counted or made, not stored."""

FAILURE_REASONS: dict[int, str] = {
    stow.OUT_OF_RESOURCES: "The disk is at its reserve, or the instance is larger than a limit allows.",
    stow.MISMATCH: "It lacks Study, Series or SOP Class UID, or belongs to another study than the path names.",
    stow.NOT_UNDERSTOOD: "It is damaged, or no DICOM Part 10 file.",
    stow.SYNTAX: "Its pixels are in a transfer syntax that is not read.",
    stow.DUPLICATE: "Another content is stored under this SOP Instance UID; that one stays.",
}
"""Failure Reasons (0008,1197) of a store response."""

_SERVICES = {"stow": "STOW-RS", "qido": "QIDO-RS", "wado": "WADO-RS", "ups": "UPS-RS"}
_ANSWERS = (200, 202, 400, 401, 403, 404, 409, 413, 415, 429, 500, 503, 507)
"""Statuses of a destination whose treatment is stated; each without a body."""


def service_of(path: str, method: str) -> str:
    """Which service a DICOMweb transaction belongs to."""
    if path.startswith(WORKLIST):
        return "ups"
    if method == "post":
        return "stow"
    return "qido" if path.rsplit("/", 1)[-1] in ("studies", "series", "instances") else "wado"


def transactions(service: str) -> list[tuple[str, str, str]]:
    """Method, path and description of each transaction of a service: stow, qido, wado or ups."""
    return [
        (method.upper(), path, operation["summary"])
        for path, operations in openapi.document()["paths"].items()
        if path.startswith(f"{ROOT}/")
        for method, operation in operations.items()
        if service_of(path, method) == service
    ]


def transaction_table(service: str) -> str:
    """The transactions of a service."""
    return table(
        ("method", "path", "what it does"),
        [(method, f"`{path}`", text) for method, path, text in transactions(service)],
    )


def overview() -> list[tuple[str, str, str]]:
    """Service, our role, and number of resources; services without any are left out."""
    counted = {name: len(transactions(service)) for service, name in _SERVICES.items()}
    return [(name, "origin server", f"{count} transactions") for name, count in counted.items() if count]


def matching(path: tuple[str, ...]) -> str:
    """How values of a key match, asked from the code that compares them."""
    vr = dictionary_VR(int(path[-1], 16))
    if vr == "UI":
        return "list of UIDs"
    if vr in ("DA", "TM"):
        return "single value, range"
    if vr == "PN":
        return "single value, wild card; word beginnings with `fuzzymatching=true`"
    try:
        wild = search.criterion(path, "1*").wild
    except ValueError:
        wild = False
    return "single value, wild card" if wild else "single value"


def key_paths() -> list[tuple[search.Level, tuple[str, ...]]]:
    """Every matching key, with the highest level at which it can be used."""
    found: list[tuple[search.Level, tuple[str, ...]]] = []
    own = (search.STUDY_KEYS, search.SERIES_KEYS, search.INSTANCE_KEYS)
    for level, tags in zip(search.LEVELS, own, strict=True):
        for tag in tags:
            found += (
                [(level, (tag, inner)) for inner in search.ITEM_KEYS[tag]]
                if tag in search.ITEM_KEYS
                else [(level, (tag,))]
            )
    return found


def kept(path: tuple[str, ...]) -> bool:
    """Whether the attribute is taken from received instances, or computed."""
    return path[0] in COMPUTED or path[0] in {search.tag(keyword) for keyword in KEYWORDS}


def keys() -> str:
    """Matching keys of QIDO-RS."""
    rows = []
    for level, path in key_paths():
        below = search.LEVELS[search.LEVELS.index(level) :]
        note = "" if kept(path) else "not kept of received instances: matches nothing"
        rows.append(
            (" > ".join(map(element, path)), dictionary_VR(int(path[-1], 16)), ", ".join(below), matching(path), note)
        )
    return table(("attribute", "VR", "levels", "matching", "note"), rows)


def search_parameters() -> str:
    """Parameters of a search that are no keys."""
    return table(
        ("parameter", "supported"),
        [
            ("limit", f"yes; at most {qido.MOST}, which is the default too"),
            ("offset", "yes"),
            ("fuzzymatching", "yes, for names"),
            ("includefield", "yes: keyword, tag, or `all`"),
            ("emptyvaluematching, multiplevaluematching", "no; ignored with a Warning header"),
            ("matching keys in one search", f"at most {qido.CRITERIA}"),
            ("unknown keys, keys below the level that is searched", "ignored with a Warning header"),
        ],
    )


def failure_reasons() -> str:
    """Failure Reasons of STOW-RS."""
    return table(("Failure Reason", "when"), [(status(number), text) for number, text in FAILURE_REASONS.items()])


def frame_media() -> str:
    """Media types of compressed frames."""
    rows = [(uid(syntax), f"`{syntax}`", f"`{media}`") for syntax, media in negotiate.COMPRESSED.items()]
    return table(("transfer syntax as stored", "UID", "media type of a frame"), rows)


def representations() -> str:
    """What WADO-RS gives."""
    explicit = (
        f"{uid(negotiate.EXPLICIT_LITTLE)} by default, byte for byte as received with `transfer-syntax=*`; nothing else"
    )
    whole = f"`multipart/related; type={negotiate.DICOM}`; an instance also as `{negotiate.DICOM}`"
    pictures = (
        f"at most {rendered.LONGEST_PX} px; parameters window, viewport, quality; annotation and iccprofile are ignored"
    )
    center, width = rendered.LUNG_WINDOW
    return table(
        ("resource", "media types", "notes"),
        [
            ("study, series, instance", whole, explicit),
            ("metadata", f"`{negotiate.JSON}`", "values of more than 1024 bytes and pixels as BulkDataURI; no XML"),
            (
                "bulk data",
                f"`{negotiate.OCTETS}`, single or multipart",
                "compressed pixels come as frames; byte ranges if single",
            ),
            ("frames", f"`{negotiate.OCTETS}`, or as stored", f"at most {frames.MOST} in one request"),
            ("rendered", f"`{rendered.PNG}`, `{rendered.JPEG}`", pictures),
            ("rendered CT without window", "as above", f"center {center:g}, width {width:g} HU"),
            ("thumbnail", f"`{rendered.JPEG}`, `{rendered.PNG}`", f"{rendered.THUMBNAIL_PX} px, or what viewport says"),
        ],
    )


def worklist_properties() -> str:
    """What the worklist takes and gives."""
    return table(
        ("property", "value"),
        [
            ("largest data set", f"{size(payload.BYTES)}, DICOM JSON"),
            ("Scheduled Procedure Step Priority (0074,1200)", ", ".join(payload.PRIORITIES)),
            ("Input Readiness State (0040,4041)", ", ".join(payload.READINESS)),
            (
                "matching keys of a search",
                f"any attribute of the dictionary, to depth {worklist.DEPTH}, at most {worklist.CRITERIA}",
            ),
            ("results of one search", f"at most {worklist.MOST}; 206 and a Warning header where there are more"),
            (
                "event reports",
                f"server-sent events, at least every {subscribers.KEEP_ALIVE_S:g} s a sign of life; no WebSocket",
            ),
        ],
    )


def performed() -> str:
    """Which work items are performed, and the processing parameters that are understood."""
    detection = " or ".join(f"({value}, {scheme})" for value, scheme in orders.BY_CONTENT)
    rows = [(f"`{value}`", orders.SCHEME, f"`{key}` of the request") for value, key in orders.PARAMETERS.items()]
    return (
        f"Performed are work items whose Scheduled Workitem Code is a model's name in scheme {orders.SCHEME}, {detection}, or "
        "absent; that name this AE title as Scheduled Station Name, or no station; whose inputs are READY and all stored here; "
        "and whose start has come. They are claimed by priority and age.\n\n"
        + table(("Scheduled Processing Parameter", "scheme", "sets"), rows)
    )


def progress() -> str:
    """Procedure Step Progress by stage."""
    return ", ".join(f"{percent} {stage}" for stage, percent in performer.PERCENT.items())


def limits(settings: Settings) -> str:
    """Limits of the HTTP side."""
    return table(
        ("property", "value"),
        [
            ("largest request body", f"{size(settings.upload_bytes)} (`upload_bytes`)"),
            ("parts of one request", f"{settings.upload_parts} (`upload_parts`)"),
            ("requests at the same time", f"{settings.http_threads} (`http_threads`), more wait"),
        ],
    )


def treatment() -> str:
    """What an answer of a STOW-RS destination means where it says nothing about the instance."""

    def row(number: int) -> tuple[object, ...]:
        (found,) = user_agent.outcomes(web.Answer(number, {}, b""), ["1.2.3"])
        return number, *outcome(found)

    return table(("HTTP status", "what happens", "what is noted"), map(row, _ANSWERS))
