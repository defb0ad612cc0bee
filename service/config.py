"""Settings: flags > environment ``PELLUCID_*`` > TOML file > defaults, each checked and each with its source.

Adding a setting is adding a field to `Settings`; its name, type, limits and help live there and nowhere else.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "PELLUCID_"
MODELS = Path(__file__).resolve().parent.parent / "models"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MIN_TOKEN_LENGTH = 16
ACCOUNT = r"[A-Za-z0-9_.@-]{1,64}"
"""Name of a token."""

AE_TITLE = r"(?! )[ -\[\]-~]{1,16}(?<! )"
"""VR AE (PS3.5 6.2): printable ASCII without backslash, no leading or trailing spaces here."""
PEER = rf"(\*|{AE_TITLE})@(\*|[0-9A-Fa-f.:]+(/[0-9]{{1,3}})?)"

_OTHERS = ("PELLUCID_CONFIG", "PELLUCID_SHARED")
"""Variables with our prefix that are not settings: the settings file, and the folder of test data."""


class ConfigError(Exception):
    """A setting that cannot be used; the message names the source, the key and what is allowed."""


def _setting(default: Any, text: str, **limits: Any) -> Any:
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True)
class Settings:
    """All settings of the service. Units are part of the names."""

    host: str = _setting("127.0.0.1", "address to listen on; anything but loopback needs tokens")
    port: int = _setting(8080, "port to listen on", low=0, high=65535)
    tokens: tuple[str, ...] = _setting(
        (), "access tokens, bare or as name=token; with none, only this computer may connect", secret=True
    )
    data_dir: Path = _setting(  # noqa: RUF009 - a Path cannot be changed
        Path("pellucid-data"), "folder of the database, the images and the results"
    )
    models_dir: Path = _setting(MODELS, "folder of the model bundles")  # noqa: RUF009
    log_level: str = _setting("info", "how much is logged", choices=("debug", "info", "warning", "error"))

    provider: str = _setting(
        "auto", "where models run; auto takes a GPU when there is one", choices=("auto", "cpu", "cuda")
    )
    threads: int = _setting(0, "threads of one inference; 0 = one a core", low=0, high=1024)
    batch_limit: int = _setting(16, "images in one inference", low=1, high=1024)
    workers: int = _setting(1, "analyses at the same time", low=1, high=64)
    attempts: int = _setting(3, "how often an analysis is taken up before it counts as failed", low=1, high=100)
    host_lost_s: float = _setting(
        45.0, "seconds without a sign of life after which the other hosts take over a host's work", low=2, high=3600
    )
    queue_limit: int = _setting(256, "waiting analyses before new ones are refused", low=1)
    sync_wait_s: float = _setting(10.0, "seconds a POST waits for the result before it answers 202", low=0, high=300)
    stop_wait_s: float = _setting(20.0, "seconds a stop waits for the running analysis", low=0, high=3600)

    dicom_port: int = _setting(11112, "port of the DICOM listener", low=0, high=65535)
    dicom_processes: int = _setting(2, "processes that receive DICOM; 0 = no DICOM listener", low=0, high=64)
    ae_title: str = _setting("PELLUCID", "our AE title, 1 to 16 characters", pattern=AE_TITLE)
    dicom_called: str = _setting("own", "which called AE titles are accepted: own, or any", choices=("own", "any"))
    dicom_peers: tuple[str, ...] = _setting(
        (),
        "who may send: AE@ADDRESS, either may be *, ADDRESS may be a network; none = this computer only",
        pattern=PEER,
    )
    dicom_tls_cert: str = _setting("", "certificate chain (PEM) of the DICOM listener; with it only TLS is spoken")
    dicom_tls_key: str = _setting("", "private key (PEM) of the DICOM listener")
    dicom_tls_ca: str = _setting("", "authorities (PEM) that must have signed a sender's certificate")
    dicom_associations: int = _setting(32, "associations at the same time, of all processes", low=1, high=4096)
    dicom_pdu_bytes: int = _setting(131072, "largest PDU we receive, bytes", low=4096, high=1 << 20)
    dicom_idle_s: float = _setting(60.0, "seconds an association may be silent", low=1, high=3600)

    series_stable_s: float = _setting(
        2.0, "seconds without a new slice after which a series without gaps is complete", low=0.1, high=3600
    )
    series_wait_s: float = _setting(
        60.0, "the same for a series that lacks slices (gaps, or fewer than announced)", low=0.1, high=86400
    )
    arrivals: str = _setting(
        "analyze", "what is done with series that come through DICOM doors", choices=("analyze", "store")
    )
    candidates: str = _setting(
        "auto", "search for nodule candidates where nobody named a place: auto, or off", choices=("auto", "off")
    )
    objects: tuple[str, ...] = _setting(
        ("SR", "SEG", "SC", "KOS"), "DICOM objects made of a result", choices=("SR", "SEG", "PM", "SC", "KOS")
    )
    region_share: float = _setting(
        0.2, "the critical region is where a map is above this share of its peak", low=0.05, high=0.95
    )
    validation_share: float = _setting(0.1, "share of result objects that are validated at run time", low=0, high=1)

    destinations: tuple[Any, ...] = _setting((), "where results are sent; tables, see docs/pacs.md", tables=True)
    delivery_attempts: int = _setting(12, "how often a delivery is tried before it is set aside", low=1, high=1000)
    delivery_backoff_s: float = _setting(5.0, "seconds before the second try; doubles each time", low=0.01, high=3600)
    delivery_wait_s: float = _setting(3600.0, "longest wait between two tries", low=0.01, high=86400)
    retention_days: float = _setting(
        0.0, "days after which received images and delivered results are purged here; 0 = never", low=0, high=36500
    )

    database: str = _setting("", "postgresql+psycopg://...; empty: SQLite in data_dir", secret=True)
    blobs_dir: str = _setting("", "folder of images and results, shared by all hosts; empty: in data_dir")

    http_threads: int = _setting(16, "threads that answer HTTP requests", low=2, high=1024)
    trusted_proxy: str = _setting(
        "127.0.0.1",
        "address of the reverse proxy whose X-Forwarded-Proto is believed; * = any, empty = none",
        empty=True,
    )
    upload_bytes: int = _setting(1 << 30, "largest request body, bytes", low=1024)
    upload_parts: int = _setting(4096, "parts of one multipart body", low=1)
    infer_bytes: int = _setting(64 << 20, "largest body of /v2/models/{name}/infer, bytes", low=1024)
    infer_batch: int = _setting(8, "images in one /v2/models/{name}/infer", low=1, high=1024)
    free_bytes: int = _setting(1 << 30, "free disk space that is never touched, bytes", low=0)

    sandbox_workers: int = _setting(2, "child processes that decode images", low=1, high=64)
    zip_members: int = _setting(4096, "files in one ZIP archive", low=1)
    expanded_bytes: int = _setting(2 << 30, "bytes of an expanded ZIP archive", low=1024)
    pixels: int = _setting(64_000_000, "pixels of one image", low=1024)
    child_memory_bytes: int = _setting(512 << 20, "memory of one decoding child process, bytes", low=128 << 20)
    child_seconds: float = _setting(20.0, "seconds one decoding step may take", low=0.1, high=600)

    @property
    def local(self) -> bool:
        """True where only this computer can connect."""
        return self.host in LOOPBACK


@dataclass(frozen=True)
class Effective:
    """Settings with the source of each, for `pellucid config`."""

    settings: Settings
    sources: Mapping[str, str]

    def lines(self) -> list[str]:
        """One line a setting, as TOML with the source as a comment; secrets are masked."""
        rows = []
        for entry in fields(Settings):
            value = getattr(self.settings, entry.name)
            secret = entry.metadata.get("secret") and value
            text = _toml(f"({len(value)} set)" if isinstance(value, tuple) else "(set)") if secret else _toml(value)
            rows.append(f"{entry.name} = {text}  # {self.sources[entry.name]}: {entry.metadata['help']}")
        return rows


def _toml(value: Any) -> str:
    if hasattr(value, "describe"):
        return json.dumps(value.describe())
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, (int, float)):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _convert(entry: Field[Any], value: Any, source: str) -> Any:
    """Turn a raw value (text, or a TOML value) into the setting's type; refuse what is not allowed."""

    def wrong(why: str) -> ConfigError:
        shown = "" if entry.metadata.get("secret") else f" {value!r}"
        return ConfigError(f"{source}: {entry.name}{shown} {why} ({entry.metadata['help']})")

    kind: type[Any] = type(entry.default)
    if kind in (int, float):
        accepted = (str, int) if kind is int else (str, int, float)
        if isinstance(value, bool) or not isinstance(value, accepted):
            raise wrong("is not a number" if kind is float else "is not a whole number")
        try:
            result: Any = kind(value)
        except ValueError:
            hint = "; inside Kubernetes set enableServiceLinks: false" if str(value).startswith("tcp://") else ""
            raise wrong(f"is not a {'whole ' if kind is int else ''}number{hint}") from None
        low, high = entry.metadata.get("low", -math.inf), entry.metadata.get("high", math.inf)
        if not low <= result <= high:
            raise wrong(f"is outside {low}..{high}" if high < math.inf else f"is below {low}")
        return result
    if entry.metadata.get("tables"):
        try:
            return json.loads(value) if isinstance(value, str) else value
        except json.JSONDecodeError:
            raise wrong("is not JSON") from None
    if kind is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise wrong("is not a list of texts")
        result = tuple(item.strip() for item in items if item.strip())
        if entry.name == "tokens":
            _check_tokens(result, wrong)
        for item in result:
            _check_text(entry, item, wrong)
        return result
    if not isinstance(value, (str, Path)) or not (str(value) or entry.default == "" or entry.metadata.get("empty")):
        raise wrong("is not a text")
    _check_text(entry, str(value), wrong)
    return kind(value)


def account(entry: str) -> tuple[str | None, str]:
    """Name and token of an entry of the setting `tokens`; None for the name of a bare token.

    An entry is ``name=token`` where what stands before its first ``=`` is a name (see `ACCOUNT`) and anything but further
    ``=`` follows: base64 that is padded at its end stays one bare token.
    """
    name, _, token = entry.partition("=")
    if token.strip("=") and re.fullmatch(ACCOUNT, name):
        return name, token
    return None, entry


def _check_tokens(entries: tuple[str, ...], wrong: Callable[[str], ConfigError]) -> None:
    tokens = [account(entry)[1] for entry in entries]
    if any(len(token) < MIN_TOKEN_LENGTH for token in tokens):
        raise wrong(f"holds a token shorter than {MIN_TOKEN_LENGTH} characters; make one with: openssl rand -hex 24")
    if len(set(tokens)) < len(set(entries)):
        raise wrong("holds one token under two names, so nobody could tell who used it; make one for each name")


def _check_text(entry: Field[Any], value: str, wrong: Callable[[str], ConfigError]) -> None:
    choices, pattern = entry.metadata.get("choices"), entry.metadata.get("pattern")
    if choices and value not in choices:
        raise wrong(f"is none of {', '.join(choices)}")
    if pattern and not re.fullmatch(pattern, value):
        raise wrong("has not the form that is allowed")


def _destinations(described: Any, ae_title: str) -> tuple[Any, ...]:
    """Tables of a settings file, or the same as JSON in the environment."""
    from service.delivery import tables  # imports urllib3 and the like, which the command line seldom needs

    try:
        return tables.parse(described, ae_title)
    except ValueError as error:
        raise ConfigError(f"destinations: {error}") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"settings file {path.name}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings file {path.name}: is not TOML ({error})") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings among the variables, by setting name. What Kubernetes adds for a service called pellucid is not ours."""
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX)
        and name not in _OTHERS
        and not name.startswith(("PELLUCID_SERVICE_", "PELLUCID_PORT_"))
    }


def load(
    flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, config: Path | None = None
) -> Effective:
    """Merge all sources into the effective settings.

    Parameters
    ----------
    flags : mapping, optional
        Values from the command line by setting name; None values count as not given.
    environ : mapping, optional
        Defaults to the process environment; ``PELLUCID_CONFIG`` names the file when `config` does not.
    config : Path, optional
        TOML file with settings at its top level.

    Raises
    ------
    ConfigError
        For a name that is no setting, and for a value of a wrong type or outside its limits.
    """
    environ = os.environ if environ is None else environ
    if config is None and environ.get("PELLUCID_CONFIG"):
        config = Path(environ["PELLUCID_CONFIG"])
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if config is not None:
        layers.append((f"settings file {config.name}", _from_file(config)))
    layers.append(("environment", _from_environment(environ)))
    layers.append(("flag", {name: value for name, value in (flags or {}).items() if value is not None}))

    known = {entry.name: entry for entry in fields(Settings)}
    values: dict[str, Any] = {}
    sources = dict.fromkeys(known, "default")
    for source, layer in layers:
        for name, value in layer.items():
            shown = PREFIX + name.upper() if source == "environment" else name
            if name not in known:
                raise ConfigError(f"{source}: there is no setting {shown!r}; `pellucid config` lists them")
            values[name] = _convert(known[name], value, f"{source} {shown}" if source == "environment" else source)
            sources[name] = f"environment {shown}" if source == "environment" else source
    if "destinations" in values:  # they call themselves what we are called, wherever that was set
        values["destinations"] = _destinations(values["destinations"], values.get("ae_title", Settings.ae_title))
    return Effective(Settings(**values), sources)


def check_access(settings: Settings) -> None:
    """Refuse to open the service to a network without saying to whom.

    Raises
    ------
    ConfigError
        When `host` is not a loopback address and no token is set, or the DICOM listener has no peers.
    """
    if settings.local:
        return
    if not settings.tokens:
        raise ConfigError(
            f"host {settings.host}: other computers could connect, but no token is set; set PELLUCID_TOKENS to one "
            "or more secrets (openssl rand -hex 24), or listen on 127.0.0.1"
        )
    if settings.dicom_processes and not settings.dicom_peers:
        raise ConfigError(
            f"host {settings.host}: other computers could send DICOM, which knows no passwords, but no sender is named; set "
            'PELLUCID_DICOM_PEERS (e.g. "PACS@10.0.0.5", or "*@*" for everybody), or PELLUCID_DICOM_PROCESSES=0'
        )
