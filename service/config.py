"""Settings: flags > environment ``PELLUCID_*`` > TOML file > defaults, each checked and each with its source.

Adding a setting is adding a field to `Settings`; its name, type, limits and help live there and nowhere else.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "PELLUCID_"
MODELS = Path(__file__).resolve().parent.parent / "models"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MIN_TOKEN_LENGTH = 16

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
    tokens: tuple[str, ...] = _setting((), "access tokens; with none, only this computer may connect", secret=True)
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
    queue_limit: int = _setting(256, "waiting analyses before new ones are refused", low=1)
    sync_wait_s: float = _setting(10.0, "seconds a POST waits for the result before it answers 202", low=0, high=300)
    stop_wait_s: float = _setting(20.0, "seconds a stop waits for the running analysis", low=0, high=3600)

    http_threads: int = _setting(16, "threads that answer HTTP requests", low=2, high=1024)
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
            text = f'"({len(value)} set)"' if entry.metadata.get("secret") and value else _toml(value)
            rows.append(f"{entry.name} = {text}  # {self.sources[entry.name]}: {entry.metadata['help']}")
        return rows


def _toml(value: Any) -> str:
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
    if kind is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise wrong("is not a list of texts")
        result = tuple(item.strip() for item in items if item.strip())
        if any(len(item) < MIN_TOKEN_LENGTH for item in result):
            raise wrong(
                f"holds a token shorter than {MIN_TOKEN_LENGTH} characters; make one with: openssl rand -hex 24"
            )
        return result
    if not isinstance(value, (str, Path)) or not str(value):
        raise wrong("is not a text")
    choices = entry.metadata.get("choices")
    if choices and value not in choices:
        raise wrong(f"is none of {', '.join(choices)}")
    return kind(value)


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
    return Effective(Settings(**values), sources)


def check_access(settings: Settings) -> None:
    """Refuse to open the service to a network without tokens.

    Raises
    ------
    ConfigError
        When `host` is not a loopback address and no token is set.
    """
    if not settings.local and not settings.tokens:
        raise ConfigError(
            f"host {settings.host}: other computers could connect, but no token is set; set PELLUCID_TOKENS to one "
            "or more secrets (openssl rand -hex 24), or listen on 127.0.0.1"
        )
