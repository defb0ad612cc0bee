"""Settings: precedence, types, limits, and that nothing wrong is silently ignored."""

from __future__ import annotations

import base64
import json
from dataclasses import fields
from pathlib import Path

import pytest

from service.config import ConfigError, Settings, account, check_access, load


def test_flags_go_before_environment_before_file_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "pellucid.toml"
    file.write_text('port = 1001\nhost = "localhost"\nworkers = 3\n')
    found = load({"port": "1003"}, {"PELLUCID_PORT": "1002", "PELLUCID_HOST": "::1"}, file)
    assert (found.settings.port, found.settings.host, found.settings.workers) == (1003, "::1", 3)
    assert found.settings.threads == Settings().threads
    assert found.sources["port"] == "flag"
    assert found.sources["host"] == "environment PELLUCID_HOST"
    assert found.sources["workers"] == "settings file pellucid.toml"
    assert found.sources["threads"] == "default"


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("sync_wait_s = 0.5\n")
    assert load(environ={"PELLUCID_CONFIG": str(file)}).settings.sync_wait_s == 0.5


def test_each_type_is_converted(tmp_path: Path) -> None:
    token = "a" * 16
    found = load(
        environ={
            "PELLUCID_TOKENS": f"{token}, {'b' * 20}",
            "PELLUCID_DATA_DIR": str(tmp_path),
            "PELLUCID_SYNC_WAIT_S": "2",
        }
    )
    assert found.settings.tokens == (token, "b" * 20)
    assert found.settings.data_dir == tmp_path
    assert found.settings.sync_wait_s == 2.0


TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("entry", "name", "token"),
    [
        (f"ward-3={TOKEN}", "ward-3", TOKEN),
        (f"Dr.A_b@x.org={TOKEN}==", "Dr.A_b@x.org", f"{TOKEN}=="),
        (f"ct=={TOKEN}", "ct", f"={TOKEN}"),
        (f"{'n' * 64}={TOKEN}", "n" * 64, TOKEN),
        (f"{'n' * 65}={TOKEN}", None, f"{'n' * 65}={TOKEN}"),
        (TOKEN, None, TOKEN),
        (f"{TOKEN}=", None, f"{TOKEN}="),
        (f"{TOKEN}==", None, f"{TOKEN}=="),
        (f"={TOKEN}", None, f"={TOKEN}"),
        (f"a/b+c={TOKEN}", None, f"a/b+c={TOKEN}"),
        (f"with blanks={TOKEN}", None, f"with blanks={TOKEN}"),
        ("", None, ""),
    ],
)
def test_a_token_may_have_a_name(entry: str, name: str | None, token: str) -> None:
    assert account(entry) == (name, token)


@pytest.mark.parametrize("size", range(16, 80))
def test_padded_base64_is_one_token(size: int) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        token = encode(bytes(range(size))).decode()
        assert account(token) == (None, token)
        assert account(f"ward={token}") == ("ward", token)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("a-long-name-of-a-ward=short", "16 characters"),
        (f"a={TOKEN},b={TOKEN}", "two names"),
        (f"a={TOKEN},{TOKEN}", "two names"),
    ],
)
def test_tokens_that_say_nothing_about_their_holder_are_refused(tokens: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(environ={"PELLUCID_TOKENS": tokens})
    assert TOKEN not in str(caught.value)
    two = f"a={TOKEN},a={TOKEN[::-1]},{'c' * 16}"  # one name may have two tokens, while the first is replaced
    assert load(environ={"PELLUCID_TOKENS": two}).settings.tokens == tuple(two.split(","))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PELLUCID_PROT", "1", ["environment", "PELLUCID_PROT", "no setting"]),
        ("PELLUCID_PORT", "eighty", ["environment PELLUCID_PORT", "'eighty'", "whole number"]),
        ("PELLUCID_PORT", "70000", ["PELLUCID_PORT", "outside 0..65535"]),
        ("PELLUCID_PORT", "tcp://10.0.0.1:8080", ["enableServiceLinks"]),
        ("PELLUCID_WORKERS", "0", ["PELLUCID_WORKERS", "outside 1..64"]),
        ("PELLUCID_PROVIDER", "tpu", ["PELLUCID_PROVIDER", "auto, cpu, cuda"]),
        ("PELLUCID_SYNC_WAIT_S", "nan", ["PELLUCID_SYNC_WAIT_S", "outside"]),
        ("PELLUCID_TOKENS", "short", ["PELLUCID_TOKENS", "16"]),
        ("PELLUCID_HOST", "", ["PELLUCID_HOST"]),
    ],
)
def test_wrong_names_and_values_are_refused_with_source_and_key(name: str, value: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={name: value})
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "line", ["prot = 1", 'port = "x"', "port = true", "port = 1.5", "tokens = [1]", "port =", "[port]\na = 1"]
)
def test_the_file_is_checked_as_strictly(tmp_path: Path, line: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(line)
    with pytest.raises(ConfigError, match=r"settings file bad\.toml"):
        load(environ={}, config=file)


def test_a_missing_file_is_said() -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load(environ={}, config=Path("gone.toml"))


def test_what_kubernetes_adds_for_a_service_of_this_name_is_not_ours() -> None:
    assert (
        load(environ={"PELLUCID_SERVICE_HOST": "10.0.0.1", "PELLUCID_PORT_8080_TCP": "tcp://10.0.0.1:8080"}).settings
        == Settings()
    )


def test_secrets_are_never_shown() -> None:
    secret = "correct-horse-battery"
    found = load(environ={"PELLUCID_TOKENS": secret})
    assert secret not in "\n".join(found.lines())
    with pytest.raises(ConfigError) as caught:
        load(environ={"PELLUCID_TOKENS": "tooshort"})
    assert "tooshort" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "tokens", "allowed"),
    [("127.0.0.1", (), True), ("::1", (), True), ("0.0.0.0", (), False), ("0.0.0.0", ("t" * 16,), True)],
)
def test_only_loopback_goes_without_tokens(host: str, tokens: tuple[str, ...], allowed: bool) -> None:
    settings = Settings(host=host, tokens=tokens, dicom_processes=0)
    if allowed:
        check_access(settings)
    else:
        with pytest.raises(ConfigError, match="PELLUCID_TOKENS"):
            check_access(settings)


@pytest.mark.parametrize(
    ("processes", "peers", "allowed"),
    [(2, (), False), (0, (), True), (2, ("PACS@10.0.0.5",), True), (1, ("*@*",), True)],
)
def test_a_network_is_listened_to_for_named_dicom_senders_only(
    processes: int, peers: tuple[str, ...], allowed: bool
) -> None:
    settings = Settings(host="0.0.0.0", tokens=("t" * 16,), dicom_processes=processes, dicom_peers=peers)
    if allowed:
        check_access(settings)
    else:
        with pytest.raises(ConfigError, match="PELLUCID_DICOM_PEERS"):
            check_access(settings)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AE_TITLE", "SEVENTEEN_LETTERS"),
        ("AE_TITLE", "BACK\\SLASH"),
        ("AE_TITLE", ""),
        ("DICOM_PEERS", "PACS"),
        ("DICOM_PEERS", "PACS@pacs.hospital.example"),
        ("DICOM_PEERS", "PACS@10.0.0.0/8,*@"),
        ("OBJECTS", "SR,PDF"),
        ("DICOM_CALLED", "some"),
        ("DESTINATIONS", "not JSON"),
        ("DESTINATIONS", '[{"kind": "fax", "name": "a"}]'),
    ],
)
def test_what_dicom_does_not_allow_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name.lower()):
        load(environ={f"PELLUCID_{name}": text})


def test_destinations_come_as_tables_or_json_and_call_themselves_what_we_are_called(tmp_path: Path) -> None:
    described = {"kind": "dicom", "name": "pacs", "host": "pacs", "port": 104, "ae_title": "PACS"}
    hook = {"kind": "callback", "name": "hook", "url": "https://x.example/", "secret": "correct-horse-battery"}
    environ = {"PELLUCID_DESTINATIONS": json.dumps([described, hook]), "PELLUCID_AE_TITLE": "READER"}
    found = load(environ=environ)
    pacs, callback = found.settings.destinations
    assert (pacs.ae_title, pacs.calling_ae, callback.kind) == ("PACS", "READER", "callback")
    assert "correct-horse" not in "\n".join(found.lines()) and '"pacs"' in "\n".join(found.lines())
    file = tmp_path / "pellucid.toml"
    file.write_text('[[destinations]]\nkind = "dicom"\nname = "pacs"\nhost = "pacs"\nport = 104\nae_title = "PACS"\n')
    (pacs,) = load(environ={}, config=file).settings.destinations
    assert (pacs.calling_ae, pacs.port) == ("PELLUCID", 104)


def test_the_url_of_a_database_is_not_shown() -> None:
    found = load(environ={"PELLUCID_DATABASE": "postgresql+psycopg://user:correct-horse@db/pellucid"})
    assert "correct-horse" not in "\n".join(found.lines())


def test_every_setting_and_its_default_stands_in_the_document() -> None:
    document = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in document.splitlines() if line.startswith("| `")}
    assert {name for name in rows if name.islower()} == {field.name for field in fields(Settings)}
    for field in fields(Settings):
        if isinstance(field.default, int | float | str) and field.name != "models_dir":
            assert f"`{field.default}`" in rows[field.name], rows[field.name]
