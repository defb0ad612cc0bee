"""Objects to send, and other sides to send them to: pynetdicom, DCMTK, Orthanc, and a web server that behaves as told."""

from __future__ import annotations

import io
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    generate_uid,
)
from pynetdicom import AE, evt

from service.delivery.attempt import Outgoing
from service.delivery.destinations import Destination
from service.delivery.tables import parse
from tests.hangup import close_for_good
from tests.orthanc import Orthanc, free_port, running
from tests.waiting import until


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def document(uid: str, sop_class: str = Comprehensive3DSRStorage, padding: int = 0) -> bytes:
    """A small structured report as a Part 10 file.

    It holds a group length, which nobody writes today and pydicom drops when it encodes anew, and ends in CR LF, which bad
    multipart code strips: so only who leaves the bytes alone passes.
    """
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.11", "2.25.12" + str(len(sop_class))
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "P1", "Doe^Jane", "", ""
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = (
        "20261101",
        "10",
        "A1",
        "",
        "",
    )
    ds.ContentDate, ds.ContentTime = "20261101", "101112"
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.Modality = "SR" if sop_class == Comprehensive3DSRStorage else "KO"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ConceptNameCodeSequence = [coded("126000", "DCM", "Imaging Measurement Report")]
    text = Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", "nothing found"
    text.ConceptNameCodeSequence = [coded("121071", "DCM", "Finding")]
    ds.ContentSequence = [text]
    ds["ContentSequence"].is_undefined_length = True
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    whole = stream.getvalue()
    start = whole.index(struct.pack("<HH2s", 0x0008, 0x0016, b"UI"))
    group = whole[start : whole.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))]
    length = struct.pack("<HH2sHI", 0x0008, 0, b"UL", 4, len(group))
    tail = bytes(padding) + b"\r\n\r\n"
    trailing = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, len(tail)) + tail  # Data Set Trailing Padding
    return whole[:start] + length + whole[start:] + trailing


def data_set(part10: bytes) -> bytes:
    """What follows the meta information: its group length (PS3.10 table 7.1-1) says where."""
    assert part10[128:132] == b"DICM" and part10[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    return part10[144 + struct.unpack("<I", part10[140:144])[0] :]


def outgoing(uid: str | None = None, kind: str = "SR", padding: int = 0, folder: Path | None = None) -> Outgoing:
    """An SR, or a KOS; with a folder it lies there as a file."""
    uid = uid or str(generate_uid(None))
    sop_class = Comprehensive3DSRStorage if kind == "SR" else KeyObjectSelectionDocumentStorage
    content: bytes | Path = document(uid, sop_class, padding)
    if folder is not None:
        path = folder / f"{uid}.dcm"
        path.write_bytes(content)
        content = path
    return Outgoing(kind, str(sop_class), uid, content)


def destination(**table: Any) -> Destination:
    """One destination, as parsed from its table."""
    return parse([{"name": "test", **table}])[0]


@dataclass
class Peer:
    """A service class provider, and what it received: data sets by SOP Instance UID."""

    port: int
    received: dict[str, bytes] = field(default_factory=dict)
    contexts: list[tuple[str, list[str]]] = field(default_factory=list)
    associations: int = 0
    entity: Any = None

    def table(self, **more: Any) -> dict[str, Any]:
        return {"kind": "dicom", "host": "127.0.0.1", "port": self.port, "ae_title": "PEER", "timeout_s": 30, **more}


@pytest.fixture
def provider() -> Iterator[Callable[..., Peer]]:
    """Starts service class providers; `store` gives the status of a C-STORE, or is it."""
    servers = []

    def start(
        store: int | Callable[[evt.Event], int] = 0x0000,
        classes: tuple[str, ...] = (Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage, "1.2.840.10008.1.1"),
        handlers: tuple[Any, ...] = (),
        context: ssl.SSLContext | None = None,
        **attributes: Any,
    ) -> Peer:
        peer = Peer(0)

        def receive(event: evt.Event) -> int:
            peer.received[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
            return store(event) if callable(store) else store

        def accept(event: evt.Event) -> None:
            peer.associations += 1
            peer.contexts += [
                (str(cx.abstract_syntax), [str(syntax) for syntax in cx.transfer_syntax])
                for cx in event.assoc.requestor.requested_contexts
            ]

        entity = AE("PEER")
        for name, value in attributes.items():
            setattr(entity, name, value)
        for sop_class in classes:
            entity.add_supported_context(sop_class)
        peer.entity = entity
        bound = [
            (evt.EVT_CONN_OPEN, close_for_good), (evt.EVT_C_STORE, receive), (evt.EVT_REQUESTED, accept), *handlers
        ]  # fmt: skip
        servers.append(entity.start_server(("127.0.0.1", 0), False, evt_handlers=bound, ssl_context=context))
        peer.port = servers[-1].server_address[1]
        return peer

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def silent() -> Iterator[int]:
    """Port of a listener that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a certificate for localhost and 127.0.0.1, one for another name, one of a client."""

    folder: Path

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def server(self, name: str = "local", ask: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.folder / "ca.pem")
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA", "-days", "2")
    names = {"local": "DNS:localhost,IP:127.0.0.1", "other": "DNS:other.example", "client": "DNS:client.example"}
    for name, alternative in names.items():
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "extensions").write_text(f"subjectAltName={alternative}\n")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions", "-days", "2")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return Certificates(folder)


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Site:
    """A web server that answers as told, and what it was asked."""

    port: int
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


Reply = Callable[[BaseHTTPRequestHandler], None]


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    """An ordinary answer; header names with _ for -."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return write


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    """Starts web servers; each POST is recorded and answered by the given function."""
    servers = []

    def start(answer: Reply, context: ssl.SSLContext | None = None) -> Site:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                found.requests.append(Request(self.path, dict(self.headers.items()), body))
                self.close_connection = True
                answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:
                pass  # clients that hang up are part of the tests

        server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        found = Site(server.server_address[1], "https" if context else "http")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return found

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """DCMTK's receiver, which stores data sets bit by bit: its port and its folder."""
    program = shutil.which("/usr/bin/storescp")
    if program is None:
        pytest.skip("NO DCMTK: apt-get install dcmtk; THIS TEST DID NOT RUN")
    folder, port = tmp_path / "received", free_port()
    folder.mkdir()
    process = subprocess.Popen([program, "+B", "-od", str(folder), str(port)], stderr=subprocess.DEVNULL)
    try:

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        yield port, folder
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Archive:
    """Orthanc, and the port that it sends the storage commitment reports of PELLUCID to."""

    orthanc: Orthanc
    reports_port: int


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    port = free_port()
    modality = {"AET": "PELLUCID", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    with running(tmp_path_factory.mktemp("orthanc"), {"pellucid": modality}) as found:
        yield Archive(found, port)
