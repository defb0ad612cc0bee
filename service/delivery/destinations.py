"""Destinations, as the administrator describes them: tables of keys, each checked, secrets never shown.

Adding a key is adding a field; its name, type, limits and help live there and nowhere else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, get_args

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from service.delivery import tls
from service.records import ObjectKind

OBJECT_KINDS: tuple[str, ...] = get_args(ObjectKind)
OUTCOMES = ("positive", "negative", "graded", "ungradable", "out_of_scope", "no_region")
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
AE_TITLE = r"(?! )[ -\[\]-~]{1,16}(?<! )"
HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
HEADER_VALUE = r"[!-~]([ -~]*[!-~])?"
OWN_HEADERS = ("content-type", "content-length", "transfer-encoding", "host", "accept", "connection")
MIN_SECRET_LENGTH = 16


def key(text: str, default: Any = MISSING, **limits: Any) -> Any:
    """Describe one key of a destination's table: its help, its default, and what is allowed."""
    given = {} if default is MISSING else {"default": default}
    return field(**given, metadata={"help": text, "type": type(default), **limits})


@dataclass(frozen=True, kw_only=True, repr=False)
class Destination:
    """What all destinations have: a name, and which results they want."""

    kind: ClassVar[str]

    name: str = key("name in logs, in the Analysis and on the command line", type=str, pattern=NAME)
    models: tuple[str, ...] = key("only results of these models", (), pattern=NAME)
    outcomes: tuple[str, ...] = key("only results with these outcomes", (), choices=OUTCOMES)
    timeout_s: float = key("seconds without progress after which an attempt has failed", 30.0, low=0.1, high=3600)

    def wants(self, kind: str, model: str, outcome: str, sender: str = "") -> bool:
        """Whether something is to be sent here.

        Parameters
        ----------
        kind : str
            Object kind, or "completed" or "failed" for a callback about an analysis.
        model, outcome : str
            Of the analysis; empty for what a failed one does not have.
        sender : str
            Calling AE title that the study came from; empty where it came otherwise.
        """
        return (not self.models or model in self.models) and (not self.outcomes or outcome in self.outcomes)

    def problems(self) -> Iterator[str]:
        """What does not fit together, one text each."""
        yield from ()

    def describe(self) -> dict[str, Any]:
        """All keys that are not at their default, for logs and `pellucid config`; of secrets only that they are set."""
        shown: dict[str, Any] = {"kind": self.kind}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value == entry.default:
                continue
            shown[entry.name] = "(set)" if entry.metadata.get("secret") else _without_query(value)
        return shown

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Objects(Destination):
    """A destination of DICOM objects."""

    objects: tuple[str, ...] = key("object kinds that are sent", OBJECT_KINDS, choices=OBJECT_KINDS, filled=True)

    def wants(self, kind: str, model: str, outcome: str, sender: str = "") -> bool:
        """As `Destination.wants`; only the object kinds named here."""
        return kind in self.objects and super().wants(kind, model, outcome, sender)


@dataclass(frozen=True, kw_only=True, repr=False)
class Dicom(Objects):
    """C-STORE to another application entity."""

    kind: ClassVar[str] = "dicom"

    host: str = key("host name or address", type=str, pattern=r"[A-Za-z0-9_.:-]{1,253}")
    port: int = key("port", type=int, low=1, high=65535)
    ae_title: str = key("called AE title", type=str, pattern=AE_TITLE)
    calling_ae: str = key("our AE title there; default: ae_title of the settings", "PELLUCID", pattern=AE_TITLE)
    to_sender: bool = key("only results of studies that this AE title sent", False)
    tls: bool = key("speak TLS", False)
    tls_ca: str = key("authorities (PEM) that sign the other side's certificate; default: the system's", "")
    tls_cert: str = key("our certificate chain (PEM), for peers that ask for one", "")
    tls_key: str = key("private key (PEM) of tls_cert", "")
    tls_verify_hostname: bool = key("the certificate must name the host", True)
    commitment: bool = key("ask for storage commitment of what was sent", False)
    commitment_wait_s: float = key(
        "seconds to wait for the commitment's report before it is asked for again", 600.0, low=1, high=604800
    )

    def wants(self, kind: str, model: str, outcome: str, sender: str = "") -> bool:
        """As `Objects.wants`; with `to_sender` only what this AE title sent."""
        return (not self.to_sender or sender == self.ae_title) and super().wants(kind, model, outcome, sender)

    def problems(self) -> Iterator[str]:
        """TLS files without TLS, a key without its certificate, files that cannot be used."""
        if not self.tls:
            for name in ("tls_ca", "tls_cert", "tls_key"):
                if getattr(self, name):
                    yield f"{name} is given, but tls is false"
        elif bool(self.tls_cert) != bool(self.tls_key):
            yield "tls_cert and tls_key belong together"
        else:
            yield from _unusable(self.tls_ca, self.tls_cert, self.tls_key)


@dataclass(frozen=True, kw_only=True, repr=False)
class Web(Destination):
    """A destination that is reached over HTTP."""

    url: str = key("address, https://...", type=str)
    ca_file: str = key("authorities (PEM) that sign the server's certificate; default: the system's", "")
    cert_file: str = key("our certificate chain (PEM), for servers that ask for one", "")
    key_file: str = key("private key (PEM) of cert_file", "")
    proxy: str = key("address of an HTTP proxy; the environment's are not used", "")
    insecure: bool = key("allow http:// where a secret is sent or signed, outside this computer", False)

    def problems(self) -> Iterator[str]:
        """An address or TLS files that cannot be used."""
        yield from _address_problems("url", self.url)
        if self.proxy:
            yield from _address_problems("proxy", self.proxy)
        if bool(self.cert_file) != bool(self.key_file):
            yield "cert_file and key_file belong together"
        else:
            yield from _unusable(self.ca_file, self.cert_file, self.key_file)

    @property
    def exposed(self) -> bool:
        """True where the address is unencrypted, leads off this computer, and nobody allowed that."""
        address = parse_url(self.url)
        return address.scheme == "http" and not _loopback(address.host or "") and not self.insecure


@dataclass(frozen=True, kw_only=True, repr=False)
class Stow(Objects, Web):
    """STOW-RS to an archive."""

    kind: ClassVar[str] = "stow"

    token: str = key("bearer token", "", secret=True, pattern=HEADER_VALUE)
    username: str = key("user name of basic authentication", "", pattern=r"[^:\x00-\x1f\x7f]+")
    password: str = key("password of basic authentication", "", secret=True)
    headers: tuple[tuple[str, str], ...] = key("further request headers, as a table", (), type=dict, secret=True)

    @property
    def studies(self) -> str:
        """Address of the store transaction (PS3.18 section 10.5)."""
        return re.sub(r"(/studies)?/*$", "", self.url) + "/studies"

    def problems(self) -> Iterator[str]:
        """As `Web.problems`; credentials that contradict each other, or that would be sent in the clear."""
        found = list(super().problems())
        yield from found
        if "?" in self.url:
            yield "url has a query; give the root of the DICOMweb service"
        if self.token and (self.username or self.password):
            yield "token and username exclude each other"
        if bool(self.username) != bool(self.password):
            yield "username and password belong together"
        for name, value in self.headers:
            if not re.fullmatch(HEADER_NAME, name) or name.lower() in OWN_HEADERS:
                yield f"headers: {name!r} cannot be set"
            elif not re.fullmatch(HEADER_VALUE, value):
                yield f"headers: the value of {name!r} is not printable ASCII"
            elif name.lower() == "authorization" and (self.token or self.username):
                yield "headers: authorization and token or username exclude each other"
        if not found and (self.token or self.username or self.headers) and self.exposed:
            yield "url is http:// and would carry credentials unencrypted; use https://, or set insecure = true"


@dataclass(frozen=True, kw_only=True, repr=False)
class Callback(Web):
    """A signed POST of the Analysis."""

    kind: ClassVar[str] = "callback"

    secret: str = key("secret that signs the body (HMAC-SHA256)", type=str, secret=True, shortest=MIN_SECRET_LENGTH)
    events: tuple[str, ...] = key(
        "what is reported", ("completed", "failed"), choices=("completed", "failed"), filled=True
    )

    def wants(self, kind: str, model: str, outcome: str, sender: str = "") -> bool:
        """As `Destination.wants`, for the events named here; `outcomes` does not hold back a failure, which has none."""
        if kind == "failed":
            return kind in self.events and (not self.models or model in self.models)
        return kind in self.events and super().wants(kind, model, outcome, sender)

    def problems(self) -> Iterator[str]:
        """As `Web.problems`; results that would leave this computer unencrypted."""
        found = list(super().problems())
        yield from found
        if not found and self.exposed:
            yield "url is http:// and leads off this computer; use https://, or set insecure = true"


KINDS: dict[str, type[Destination]] = {entry.kind: entry for entry in (Dicom, Stow, Callback)}


def _unusable(authorities: str, certificate: str, private_key: str) -> Iterator[str]:
    try:
        tls.client_context(authorities, certificate, private_key)
    except ValueError as error:
        yield str(error)


def _address_problems(name: str, text: str) -> Iterator[str]:
    try:
        address = parse_url(text)
    except LocationParseError:
        yield f"{name} is not an address"
        return
    if address.scheme not in ("http", "https") or not address.host or re.search(r"[\x00-\x20\x7f-\U0010ffff]", text):
        yield f"{name} is not an http:// or https:// address"
    if address.auth:
        yield f"{name} holds credentials; give them with their own keys"
    if address.fragment is not None:
        yield f"{name} has a fragment (#...)"


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _without_query(value: Any) -> Any:
    """A query may be somebody's token."""
    return value.split("?")[0] + "?..." if isinstance(value, str) and "?" in value else value
