"""Which representation a client wants: its media types and transfer syntaxes (PS3.18 8.7), and where things are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import request
from werkzeug.exceptions import NotAcceptable

from service.config import LOOPBACK
from service.records import Instance

JSON = "application/dicom+json"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
RELATED = "multipart/related"
ANY = "*"

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
"""Default transfer syntax of the web services (PS3.18 table 8.7.3-2)."""

_JPEG = "1.2.840.10008.1.2.4."
COMPRESSED = {
    **dict.fromkeys((_JPEG + n for n in ("50", "51", "53", "55", "57", "70")), "image/jpeg"),
    **dict.fromkeys((_JPEG + n for n in ("80", "81")), "image/jls"),
    **dict.fromkeys((_JPEG + n for n in ("90", "91")), "image/jp2"),
    **dict.fromkeys((_JPEG + n for n in ("201", "202", "203")), "image/jphc"),
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media type of a compressed frame by its transfer syntax (PS3.18 table 8.7.3-5)."""


HEADER_CHARACTERS = 4096
"""Of an Accept header that are looked at."""
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ITEM, _PARAMETER = re.compile(rf'(?:[^,"]|{_QUOTED})+'), re.compile(rf'(?:[^;"]|{_QUOTED})+')


@dataclass(frozen=True)
class Wanted:
    """One acceptable representation.

    Attributes
    ----------
    media : str
        Of a single part, or of each part: "application/dicom", "image/jls", "image/*", "*/*".
    multipart : bool or None
        Whether it comes as multipart/related; None: either way.
    syntax : str
        Transfer syntax UID, "*" for as it is stored, "" for the default.
    """

    media: str
    multipart: bool | None
    syntax: str

    def takes(self, media: str, multipart: bool) -> bool:
        """Whether a representation of this media type fits."""
        kind = media.partition("/")[0]
        return self.multipart in (None, multipart) and self.media in (media, f"{kind}/*", "*/*")


def accepted() -> list[Wanted]:
    """What the request accepts, the best first: the query parameter `accept`, else the header, else anything."""
    text = (request.args.get("accept") or request.headers.get("Accept") or "*/*")[:HEADER_CHARACTERS]
    ranges = [media_type(item) for item in _ITEM.findall(text)]
    found = []
    for media, options in sorted(ranges, key=lambda entry: -_quality(entry[1])):
        syntax = options.get("transfer-syntax", "")
        if _quality(options) <= 0:
            continue
        if media in (RELATED, "multipart/*"):
            found.append(Wanted(options.get("type", "*/*").lower(), True, syntax))
        else:
            found.append(Wanted(media, None if media == "*/*" else False, syntax))
    return found


def media_type(text: str) -> tuple[str, dict[str, str]]:
    """A media type with its parameters by lower-case name. Values may be quoted or, as many clients do, bare with a slash."""
    first, *rest = [part.strip() for part in _PARAMETER.findall(text)] or [""]
    options = {}
    for part in rest:
        name, _, value = part.partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        options[name.strip().lower()] = value
    return first.lower(), options


def _quality(options: dict[str, str]) -> float:
    try:
        return float(options.get("q", "1"))
    except ValueError:
        return 0.0


def one_of(*offers: str) -> str:
    """The single-part media type to answer with, in the client's order and then in ours.

    Raises
    ------
    NotAcceptable
    """
    for wanted in accepted():
        for offer in offers:
            if wanted.takes(offer, False):
                return offer
    raise not_acceptable(offers)


def json_or_refuse() -> None:
    """Every answer about attributes is DICOM JSON; raises NotAcceptable where only something else is accepted."""
    one_of(JSON, "application/json")


def not_acceptable(offers: Sequence[str]) -> NotAcceptable:
    """The error for an Accept that nothing here fits."""
    return NotAcceptable(f"Nothing that you accept can be given here; there is {', '.join(offers)}.")


def root() -> str:
    """Address of the DICOMweb root, as the client reached this service, without a slash at its end.

    A client on this computer may leave the port out of its Host header (dicomweb-client does); then it is the server's.
    """
    there = urlsplit(request.url_root)
    port = request.environ.get("SERVER_PORT", "")
    host = there.netloc
    if there.port is None and there.hostname in LOOPBACK and port not in ("", "80", "443"):
        host += f":{port}"
    return f"{there.scheme}://{host}{there.path.rstrip('/')}/dicomweb"


def address(instance: Instance) -> str:
    """Where an instance can be retrieved (Retrieve URL)."""
    return f"{root()}/studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_instance_uid}"
