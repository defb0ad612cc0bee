"""Destinations from the settings: what is allowed, what is refused and how it is said, what is wanted, what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.delivery.destinations import Callback, Dicom, Stow
from service.delivery.tables import parse
from tests.unit.delivery.conftest import Certificates

SECRET = "a-secret-of-24-characters"
DICOM = {"kind": "dicom", "name": "pacs", "host": "pacs.example", "port": 104, "ae_title": "PACS"}
STOW = {"kind": "stow", "name": "archive", "url": "https://archive.example/dicom-web"}
CALLBACK = {"kind": "callback", "name": "ris", "url": "https://ris.example/hook", "secret": SECRET}


def one(table: dict[str, Any], **changes: Any) -> Any:
    (found,) = parse([{key: value for key, value in {**table, **changes}.items() if value is not None}])
    return found


def test_defaults() -> None:
    pacs, archive, ris = parse([DICOM, STOW, CALLBACK], our_ae="US")
    assert isinstance(pacs, Dicom) and isinstance(archive, Stow) and isinstance(ris, Callback)
    assert (pacs.host, pacs.port, pacs.ae_title, pacs.calling_ae) == ("pacs.example", 104, "PACS", "US")
    assert pacs.objects == archive.objects == ("SR", "SEG", "PM", "SC", "KOS")
    assert not (pacs.tls or pacs.commitment or pacs.to_sender)
    assert pacs.tls_verify_hostname
    assert ris.events == ("completed", "failed")


def test_nothing_configured() -> None:
    assert parse([]) == ()


@pytest.mark.parametrize(
    ("table", "changes", "expected"),
    [
        (DICOM, {"kind": "ftp"}, "destination 'pacs': kind is none of dicom, stow, callback"),
        (DICOM, {"kind": None}, "destination 'pacs': kind is none of"),
        (DICOM, {"name": None}, "destination 1: name is missing"),
        (DICOM, {"name": "a b"}, "destination 'a b': name 'a b' is not allowed"),
        (DICOM, {"host": None}, "destination 'pacs': host is missing (host name or address)"),
        (DICOM, {"hots": "x"}, "destination 'pacs': there is no key 'hots' for kind dicom; there are kind, name, "),
        (DICOM, {"port": 0}, "destination 'pacs': port 0 is outside 1..65535"),
        (DICOM, {"port": "104"}, "destination 'pacs': port '104' is not a whole number"),
        (DICOM, {"port": True}, "port True is not a whole number"),
        (DICOM, {"ae_title": "A" * 17}, "is not allowed (called AE title)"),
        (DICOM, {"ae_title": "A\\B"}, "is not allowed (called AE title)"),
        (DICOM, {"ae_title": " A"}, "is not allowed (called AE title)"),
        (DICOM, {"host": "a b"}, "host 'a b' is not allowed"),
        (DICOM, {"timeout_s": float("nan")}, "timeout_s nan is outside 0.1..3600"),
        (DICOM, {"objects": []}, "objects [] is empty"),
        (DICOM, {"objects": "SR"}, "objects 'SR' is not a list of texts"),
        (DICOM, {"objects": ["SR", "PDF"]}, "is none of SR, SEG, PM, SC, KOS"),
        (DICOM, {"outcomes": ["bad"]}, "is none of positive, negative, graded"),
        (DICOM, {"commitment": "yes"}, "commitment 'yes' is neither true nor false"),
        (DICOM, {"tls_ca": "/etc/hosts"}, "destination 'pacs': tls_ca is given, but tls is false"),
        (DICOM, {"tls": True, "tls_cert": "/etc/hosts"}, "tls_cert and tls_key belong together"),
        (DICOM, {"tls": True, "tls_ca": "/nowhere"}, "the file of authorities cannot be read"),
        (DICOM, {"token": SECRET}, "there is no key 'token' for kind dicom"),
        (STOW, {"url": None}, "destination 'archive': url is missing"),
        (STOW, {"url": "ftp://a.example"}, "url is not an http:// or https:// address"),
        (STOW, {"url": "archive.example"}, "url is not an http:// or https:// address"),
        (STOW, {"url": "https://a.example/a\r\nX: y"}, "url is not an http:// or https:// address"),
        (STOW, {"url": "https://me:word@a.example"}, "url holds credentials"),
        (STOW, {"url": "https://a.example/#x"}, "url has a fragment"),
        (STOW, {"url": "https://a.example/?x=1"}, "url has a query"),
        (STOW, {"token": SECRET, "username": "u", "password": "p"}, "token and username exclude each other"),
        (STOW, {"username": "u"}, "username and password belong together"),
        (STOW, {"username": "u:v", "password": "p"}, "is not allowed (user name"),
        (STOW, {"headers": {"Content-Type": "x"}}, "headers: 'Content-Type' cannot be set"),
        (STOW, {"headers": {"X-A": "a\r\nX-B: b"}}, "headers: the value of 'X-A' is not printable ASCII"),
        (STOW, {"headers": {"Authorization": "x"}, "token": SECRET}, "authorization and token"),
        (STOW, {"headers": ["a"]}, "headers is not a table of texts"),
        (STOW, {"url": "http://a.example", "token": SECRET}, "would carry credentials unencrypted"),
        (STOW, {"url": "http://a.example", "headers": {"X-Key": "k"}}, "would carry credentials unencrypted"),
        (STOW, {"cert_file": "a.pem"}, "cert_file and key_file belong together"),
        (STOW, {"proxy": "proxy"}, "proxy is not an http:// or https:// address"),
        (CALLBACK, {"secret": None}, "destination 'ris': secret is missing"),
        (CALLBACK, {"secret": "short"}, "destination 'ris': secret is shorter than 16 characters"),
        (CALLBACK, {"url": "http://ris.example/"}, "leads off this computer"),
        (CALLBACK, {"url": "http://localhost.example/"}, "leads off this computer"),
        (CALLBACK, {"events": ["started"]}, "is none of completed, failed"),
        (CALLBACK, {"secret_file": "/nowhere"}, "secret and secret_file exclude each other"),
        (CALLBACK, {"secret": None, "secret_file": "/nowhere"}, "secret_file: the file cannot be read"),
        (CALLBACK, {"objects": ["SR"]}, "there is no key 'objects' for kind callback"),
    ],
)
def test_refused(table: dict[str, Any], changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match="^destination ") as caught:
        one(table, **changes)
    message = str(caught.value)
    assert expected in message
    assert SECRET not in message and "short'" not in message


def test_not_tables() -> None:
    for wrong in ("pacs", {"name": "pacs"}, None):
        with pytest.raises(ValueError, match="is not a list of tables"):
            parse(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="destination 2: is not a table"):
        parse([DICOM, "pacs"])


def test_two_of_one_name() -> None:
    with pytest.raises(ValueError, match="destination 'pacs': there are two of this name"):
        parse([DICOM, {**STOW, "name": "pacs"}])


@pytest.mark.parametrize("url", ["http://localhost:9/a", "http://127.0.0.1/", "http://127.9.9.9/", "http://[::1]:80/"])
def test_this_computer_needs_no_encryption(url: str) -> None:
    assert one(CALLBACK, url=url).url == url
    assert one(STOW, url=url, token=SECRET).token == SECRET


def test_insecure_is_the_administrators_decision() -> None:
    assert one(CALLBACK, url="http://ris.example/", insecure=True).insecure
    assert one(STOW, url="http://a.example", token=SECRET, insecure=True).insecure
    assert one(STOW, url="http://a.example").url == "http://a.example", "no credentials: as DICOM itself"


@pytest.mark.parametrize(
    "url",
    ["https://a.example/dw", "https://a.example/dw/", "https://a.example/dw/studies", "https://a.example/dw/studies/"],
)
def test_root_or_studies(url: str) -> None:
    assert one(STOW, url=url).studies == "https://a.example/dw/studies"


def test_secrets_from_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    assert one(CALLBACK, secret=None, secret_file=str(file)).secret == SECRET
    assert one(STOW, token_file=str(file)).token == SECRET
    assert one(STOW, username="u", password_file=str(file)).password == SECRET
    file.write_text("too short\n")
    with pytest.raises(ValueError, match="secret_file is shorter than 16 characters"):
        one(CALLBACK, secret=None, secret_file=str(file))
    file.write_text("\n")
    with pytest.raises(ValueError, match="the file is empty"):
        one(STOW, token_file=str(file))


def test_secrets_are_never_shown() -> None:
    found = parse(
        [
            {**STOW, "token": SECRET},
            {**STOW, "name": "b", "username": "somebody", "password": SECRET},
            {**STOW, "name": "c", "headers": {"X-Key": SECRET}},
            CALLBACK,
            {**CALLBACK, "name": "d", "url": f"https://ris.example/hook?key={SECRET}"},
        ]
    )
    shown = " ".join([repr(found), str(found), *(str(entry.describe()) for entry in found)])
    assert SECRET not in shown
    assert "somebody" in shown and "https://ris.example/hook" in shown
    assert found[0].describe() == {**STOW, "token": "(set)"}


def test_tls_files(certificates: Certificates) -> None:
    files = {"tls": True, "tls_ca": certificates.file("ca.pem")}
    assert one(DICOM, **files).tls_ca == certificates.file("ca.pem")
    pair = {"tls_cert": certificates.file("client.pem"), "tls_key": certificates.file("other.key")}
    with pytest.raises(ValueError, match="do not belong together") as caught:
        one(DICOM, **files, **pair)
    assert str(certificates.folder) not in str(caught.value)


class TestWants:
    def test_object_kinds(self) -> None:
        pacs = one(DICOM, objects=["SR", "SC"])
        assert pacs.wants("SR", "clear_dr", "graded", "") and not pacs.wants("SEG", "clear_dr", "graded", "")
        assert not pacs.wants("completed", "clear_dr", "graded", "")

    def test_models_and_outcomes(self) -> None:
        pacs = one(DICOM, models=["sisc_lung"], outcomes=["positive", "no_region"])
        assert pacs.wants("SR", "sisc_lung", "positive", "")
        assert not pacs.wants("SR", "clear_dr", "positive", "")
        assert not pacs.wants("SR", "sisc_lung", "negative", "")

    def test_to_sender(self) -> None:
        pacs = one(DICOM, to_sender=True)
        assert pacs.wants("SR", "m", "graded", "PACS")
        assert not pacs.wants("SR", "m", "graded", "OTHER") and not pacs.wants("SR", "m", "graded", "")

    def test_callback(self) -> None:
        both, failed = one(CALLBACK, outcomes=["positive"]), one(CALLBACK, events=["failed"], models=["sisc_lung"])
        assert both.wants("completed", "m", "positive", "") and not both.wants("completed", "m", "negative", "")
        assert both.wants("failed", "m", "", ""), "a failure has no outcome"
        assert failed.wants("failed", "sisc_lung", "", "") and not failed.wants(
            "completed", "sisc_lung", "positive", ""
        )
        assert not failed.wants("failed", "clear_dr", "", "")
        assert not both.wants("SR", "m", "positive", "")
