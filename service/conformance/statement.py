"""The DICOM Conformance Statement (PS3.2 annex N: its sections in its order)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from pydicom.charset import python_encoding

from models.bundle import Bundle
from service import __version__
from service.config import Settings
from service.conformance import network, objects, web
from service.conformance.tables import concept, keyword, table, uid
from service.dimse import contexts
from service.intake import attributes, dicom
from service.results import codes, repertoire

CONFIGURABLE = (
    "host", "port", "tokens", "dicom_port", "dicom_processes", "ae_title", "dicom_called", "dicom_peers", "dicom_tls_cert",
    "dicom_tls_key", "dicom_tls_ca", "dicom_associations", "dicom_pdu_bytes", "dicom_idle_s", "series_stable_s", "series_wait_s",
    "arrivals", "objects", "destinations", "delivery_attempts", "delivery_backoff_s", "delivery_wait_s", "upload_bytes",
    "pixels", "free_bytes",
)  # fmt: skip
"""Settings that change what this statement says."""
_HIDDEN = ("tokens", "destinations", "dicom_peers", "dicom_tls_cert", "dicom_tls_key", "dicom_tls_ca")


def text(settings: Settings, bundles: Mapping[str, Bundle], running: bool = False) -> str:
    """The statement as Markdown.

    Parameters
    ----------
    settings : Settings
        Where something depends on settings, these are stated.
    bundles : mapping
        The models that answer, by name.
    running : bool
        The settings are those of a running service: they are shown beside the defaults.
    """
    parts = (
        _overview(settings, bundles),
        _introduction(),
        _model(settings),
        _dimse_services(),
        _web_services(settings),
        _configuration(settings, running),
        _network(settings),
        _security(),
        _character_sets(),
        _created(),
        _codes(bundles),
        _used(),
        _deviations(),
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _overview(settings: Settings, bundles: Mapping[str, Bundle]) -> str:
    services = [*web.overview(), ("STOW-RS", "user agent", "to destinations of kind `stow`")]
    taken = [
        (f"`{name}`", bundle.version, uid(sop_class), f"`{sop_class}`")
        for name, bundle in bundles.items()
        for sop_class in bundle.description["input"]["sop_classes"]
    ]
    return f"""
# DICOM Conformance Statement: Pellucid {__version__}

This text is made from the code (`make conformance`); a running service gives its own at `GET /conformance`. It follows the
order of PS3.2 annex N. Pellucid is research software and no medical device.

## 1 Overview

Pellucid receives images, answers with predictions and response maps, and sends the answer back as DICOM objects of the same
patient and study.

### 1.1 Network services

SOP classes that a peer may open an association for. The letters stand for the transfer syntaxes of section 4.1.2.

{network.accepted()}

SOP classes that Pellucid proposes to its destinations:

{network.sent()}

Not offered: query, retrieve, modality worklist, performed procedure step, print, instance availability notification.

### 1.2 Web services

{table(("service", "role", "extent"), services)}

Not offered: WADO-URI, XML representations, capabilities description.

### 1.3 Media services

None.

### 1.4 What is analysed

Instances of other SOP classes are stored, searched and retrieved, but not analysed.

{table(("model", "version", "SOP class", "UID"), taken)}

The AE title is `{settings.ae_title}` unless it is configured otherwise.
"""


def _introduction() -> str:
    return """
## 2 Introduction

For those who connect Pellucid with other systems. Conformance to DICOM is necessary for that and not sufficient: try the
connection with your own data before you rely on it.

Terms are those of PS3.2, PS3.4, PS3.7, PS3.8 and PS3.18. *Destination*: where results are sent, one table in the settings.
*Finding*: one nodule or one eye. *Object kind*: SR, SEG, PM, SC, KOS or RN, see annex A. *Revision*: the objects of a result,
made anew after a reader's verdict. *Set aside*: not tried again until a person asks for it.
"""


def _model(settings: Settings) -> str:
    receives = f"listens as `{settings.ae_title}`: verification, storage, reports of storage commitment"
    entities = (
        ("RECEIVE", receives, "acceptor"),
        ("SEND", "C-STORE of results; requests storage commitment where the destination says so", "initiator"),
        ("WEB", "HTTP: DICOMweb and the interface of its own", "origin server"),
        ("WEB-SEND", "STOW-RS of results", "user agent"),
    )
    return f"""
## 3 Implementation model

### 3.1 Data flow

A sender stores images by C-STORE or STOW-RS, or posts files to `/api/v1/analyses`. All go the same way: checked and filed;
when their series is complete, analysed; the objects of the result are filed and sent to each destination that wants them.
Whoever asks finds images and results by QIDO-RS and WADO-RS.

### 3.2 Application entities

{table(("application entity", "does", "role"), entities)}

### 3.3 Sequence

1. RECEIVE and WEB answer success when an instance is on the disk, before it is analysed.
2. A series is complete when as many instances are there as the sender announced (Number of Series Related Instances
   (0020,1209), Images in Acquisition (0020,1002)), or when nothing came for `series_stable_s` and neither Instance Number nor
   geometry has a gap, or when nothing came for `series_wait_s`. Photographs do not wait.
3. Slices that come later lead to a new result whose SR names the earlier one (Predecessor Documents Sequence (0040,A360)).
4. SEND and WEB-SEND send the objects of one result together. What fails is sent again with growing waits,
   `delivery_attempts` times in all.
5. Own results that come back are filed and not analysed. They are known by Contributing Equipment Sequence (0018,A001).
6. When a reader rejects or corrects a finding, or takes that back, the objects are made anew: the new SR names the earlier one
   as predecessor, and a rejection note, annex A.5, names all objects that they replace. What waits of those is not sent any
   more; the note goes where any of them was tried.
"""


def _dimse_services() -> str:
    letters = ", ".join(network.transfer_syntaxes().values())
    return f"""
## 4 Services

### 4.1 DIMSE services

#### 4.1.1 Verification

RECEIVE answers C-ECHO with `0000`.

#### 4.1.2 Transfer syntaxes

Lists {letters} of section 1.1. A number tells in which order one is chosen where a sender offers several in one presentation
context: lossless before lossy. Images are decoded from all of them.

{network.syntax_lists()}

#### 4.1.3 Storage SCP

Level 2 (full): the data set is stored as it was received, byte for byte, with all private and standard extended elements. No
element is changed or coerced. Digital signatures are neither checked nor broken.

An instance is checked before it is acknowledged: its header is read, sizes are compared with the limits. Its pixels are
decoded later; an instance that proves undecodable then gives an analysis that says so.

An instance that is stored already is acknowledged with `0000`. So is one whose SOP Instance UID is stored with other content:
the first stays, the log and the metrics have the other as a conflict.

Access to stored instances: QIDO-RS and WADO-RS.

{network.store_statuses()}

#### 4.1.4 Storage SCU

SEND proposes one presentation context for each pair of SOP class and transfer syntax that it has to send, and converts
nothing.

{network.treatment()}

Other statuses: warnings (`Bxxx`) count as delivered, `A7xx` and whatever is not listed is tried again, `A9xx` and `Cxxx` is
set aside. A rejected association, a refused presentation context, a broken connection and a missing answer are tried again.

#### 4.1.5 Storage Commitment Push Model SCU

For destinations with `commitment = true`. SEND asks by N-ACTION (action type 1) once what it sent for a result was stored.
The association stays open for one second for a report on it; later reports are taken by RECEIVE on an association that the
archive opens, with the role of the SCP proposed by role selection. A request without a report is repeated with a new
Transaction UID after `commitment_wait_s`. Instances that the archive failed to commit are sent again.

{network.failure_reasons()}

An N-EVENT-REPORT is answered with:

{network.report_statuses()}
"""


def _web_services(settings: Settings) -> str:
    return f"""
### 4.2 Web services

Root: `/dicomweb`. Attributes come as `application/dicom+json` only. Errors are `application/problem+json` (RFC 9457).

{web.limits(settings)}

#### 4.2.1 STOW-RS

{web.transaction_table("stow")}

Takes `multipart/related; type="application/dicom"`, or one instance as `application/dicom`; not metadata with bulk data.
Every SOP class is stored. Answers: 200 all stored, 202 some, 409 none, 413 too large, 415 no DICOM, 507 no room. A Warning
header says the first failures in words.

{web.failure_reasons()}

#### 4.2.2 QIDO-RS

{web.transaction_table("qido")}

{web.search_parameters()}

Matching keys, by keyword or tag; keys inside a sequence after a dot. Text matches as it is written, names without regard to
case. Attributes of a study or series are those of one of its instances. Without `includefield` the attributes of PS3.18
tables 10.6.3-3 to 10.6.3-5 are given, the others with it or when they are a key.

{web.keys()}

#### 4.2.3 WADO-RS

{web.transaction_table("wado")}

{web.representations()}

{web.frame_media()}

{_work_items()}

#### 4.2.5 STOW-RS as user agent

WEB-SEND stores the objects of a result with one request, streamed, as `multipart/related; type="application/dicom"`. What the
answer says about an instance goes before its HTTP status. Where it says nothing:

{web.treatment()}

`Retry-After` is followed. Redirects are not followed. A request that is too large is divided into one for each object.

### 4.3 Media storage services

None.
"""


def _work_items() -> str:
    return f"""#### 4.2.4 UPS-RS

{web.transaction_table("ups")}

Work items are kept for whoever claims them. Those that ask for what Pellucid does it claims and performs itself: SCHEDULED, IN
PROGRESS, then COMPLETED with the objects in Output Information Sequence (0040,4033), or CANCELED with a discontinuation reason.
Progress in percent: {web.progress()}, 100 completed. Canceling one that Pellucid performs ends it and deletes what it made.

{web.performed()}

REGION may be there several times: `x,y,z` in patient mm, or `SOP Instance UID:column,row`. MAPS and OBJECTS are lists with
commas.

{web.worklist_properties()}"""


def _configuration(settings: Settings, running: bool) -> str:
    known = {entry.name: entry for entry in fields(Settings)}

    def shown(name: str, value: object) -> str:
        if name in _HIDDEN:
            return "set" if value else "none"
        return f"`{', '.join(map(str, value)) if isinstance(value, tuple) else value}`"

    rows = [
        (
            f"`{name}`",
            shown(name, known[name].default),
            *((shown(name, getattr(settings, name)),) if running else ()),
            known[name].metadata["help"],
        )
        for name in CONFIGURABLE
    ]
    header = ("setting", "default", *(("here",) if running else ()), "what it is")
    return f"""
## 5 Configuration

Settings come from a file, the environment or flags, and take effect at the start. Remote AE titles that may send are in
`dicom_peers`, those that are sent to in `destinations`.

{table(header, rows)}
"""


def _network(settings: Settings) -> str:
    return f"""
## 6 Network communication details

TCP/IP. Host names are resolved by the operating system. DIMSE associations:

### 6.1 As acceptor (RECEIVE)

{network.as_acceptor(settings)}

An association is rejected in this order:

{network.rejections()}

Presentation contexts that are not in section 1.1 are refused one by one; the association is accepted nevertheless. A peer
that breaks the upper layer protocol is aborted (A-ABORT), and so is one that sends a longer PDU than was negotiated.

### 6.2 As initiator (SEND)

{network.as_initiator(settings)}

Associations are opened when there is something to send, and released afterwards.
"""


def _security() -> str:
    return """
## 7 Security

- RECEIVE speaks TLS 1.2 or newer, and nothing else, where `dicom_tls_cert` is set; with `dicom_tls_ca` it demands a
  certificate from the sender. Without it DICOM is not encrypted. Cipher suites are those of OpenSSL's default.
- SEND and WEB-SEND speak TLS 1.2 or newer where the destination says so, always verify the certificate, and can show one of
  their own.
- Who may open an association: calling AE titles with addresses or networks (`dicom_peers`); the called AE title is checked.
- HTTP wants a bearer token, or Basic with the token as the password, wherever the service listens on more than loopback.
  HTTPS is the reverse proxy's. Callbacks are signed (HMAC-SHA256).
- Foreign data sets are read in processes with limits for memory and time.

Not supported: audit trail messages (ATNA), digital signatures, attribute confidentiality, de-identification, user identity
negotiation.
"""


def _character_sets() -> str:
    known = ", ".join(f"`{name}`" for name in sorted(python_encoding) if name)
    return f"""
## 8 Character sets

Received instances may use the default repertoire and these defined terms, with code extensions: {known}.

Created objects have the Specific Character Set (0008,0005) of the source images where it can hold all their texts, else
`{repertoire.UTF_8}`. DICOM JSON is UTF-8. Texts of our own are English and ASCII.
"""


def _created() -> str:
    return f"""
## Annex A Created instances

### A.1 Kinds

Which kinds are made is a setting (`objects`); which are sent is set for each destination. Each kind of a result is a series
of its own, anew for each revision. All are Explicit VR Little Endian.

{objects.kinds()}

Modules: those that the IOD demands (PS3.3 A.35.13, A.51, A.75, A.8.1, A.8.5, A.35.4); Enhanced General Equipment in all. The
objects of the tests have no errors by dciodvfy; a share of the objects that a running service makes (`validation_share`) is
checked too, and the verdict stands in the result.

### A.2 Attributes

Taken from the source images where present and valid (patient's name and ID, accession number and study ID even if not); Type 2
attributes are empty else: {objects.of_source()}

Of this software in every object: Manufacturer, Manufacturer's Model Name (the model's title), Device Serial Number (hash of the
weights), Software Versions, Device UID (changes with the weights), Contributing Equipment Sequence with purpose
{concept(objects.FIXED_CODES["109102"])}.

Fixed values:

{objects.fixed_values()}

UIDs are 2.25 + UUIDv5 of the source SOP Instance UIDs, the weights, the versions and the request: the same input gives the
same UIDs and the same bytes. Content Date and Time are the latest moment that the source images state. Instance Creation Date
and Time are absent. The UIDs of a revision depend on its number and the verdicts, too, and its date and time are those of the
newest verdict, in the time zone of the source images or, where they state none, of this computer.

A finding has one Tracking UID (0062,0021) in SR, SEG and JSON. The SR refers to all other objects of the result.

### A.3 Structured report (TID 1500)

{objects.tree(objects.REPORT)}

### A.4 Key object selection (TID 2010)

{objects.tree(objects.SELECTION)}

### A.5 Rejection note (TID 2010)

As in IHE IOCM. Pellucid acts on no note itself: it keeps the replaced objects.

{objects.tree(objects.REJECTION)}
"""


def _codes(bundles: Mapping[str, Bundle]) -> str:
    classes = [
        (f"`{name}`", entry["name"], f"`{entry['code']['value']}`", entry["code"]["scheme"], entry["code"]["meaning"])
        for name, bundle in bundles.items()
        for entry in bundle.description["classes"]
    ]
    return f"""
## Annex B Coded concepts

The severity of retinopathy is coded with LOINC 71490-7 and 71491-5, whose method is ophthalmoscopy; Pellucid's grade comes
from a photograph.

{objects.code_table(private=False)}

### B.1 Private coding scheme {codes.PRIVATE}

Identified in Coding Scheme Identification Sequence (0008,0110) as "{codes.PRIVATE_NAME}".

{objects.code_table(private=True)}

### B.2 Classes of the models

{table(("model", "class", "value", "scheme", "meaning"), classes)}
"""


def _used() -> str:
    names = dict.fromkeys((*dicom.IMAGE_KEYWORDS, *attributes.KEYWORDS))
    marks = ", ".join(uid(name) for name in _marking())
    return f"""
## Annex C Attributes of received instances that are used

{", ".join(keyword(name) for name in names)}.

Nodules are taken from {marks} that reference the series, unless the request names places.
"""


def _marking() -> list[str]:
    """SOP classes that mark places in other images."""
    from service.intake import reports, segmentations, structure_sets

    readers = {**reports.READERS, **segmentations.READERS, **structure_sets.READERS}
    return [name for name in readers if name in contexts.STORAGE]


def _deviations() -> str:
    return f"""
## Annex D Extensions, specialisations, privatisations

Event reports of UPS-RS are server-sent events, not messages on a WebSocket (PS3.18 8.10.4).

No private SOP classes, attributes or transfer syntaxes; one private coding scheme, {codes.PRIVATE}. Created objects are
Standard SOP classes.
"""
