"""The IHE Integration Statement: actors that are implemented, with what each rests on, and what nobody has tested."""

from __future__ import annotations

from service import __version__
from service.conformance import web
from service.conformance.tables import table

_AIW_I = (
    ("RAD-80", "Create UPS Workitem", "POST", "/dicomweb/workitems"),
    ("RAD-81", "Query UPS Workitems", "GET", "/dicomweb/workitems"),
    ("RAD-82", "Claim UPS Workitem", "PUT", "/dicomweb/workitems/{}/state"),
    ("RAD-83", "Get UPS Workitem Contents", "GET", "/dicomweb/workitems/{}"),
    ("RAD-84", "Update UPS Workitem", "POST", "/dicomweb/workitems/{}"),
    ("RAD-85", "Complete UPS Workitem", "PUT", "/dicomweb/workitems/{}/state"),
    ("RAD-86", "Manage UPS Subscription", "POST", "/dicomweb/workitems/{}/subscribers/{}"),
    ("RAD-88", "Request UPS Workitem Cancelation", "POST", "/dicomweb/workitems/{}/cancelrequest"),
)
"""Transactions of AI Workflow for Imaging over UPS-RS, with the resource that each uses."""


_PRIMITIVES = (
    ("qualitative finding", "SR: CODE items in the measurement group and in Qualitative Evaluations"),
    ("measurement", "SR: NUM items with unit (probability, diameter of a candidate)"),
    ("location", "SR: SCOORD on an image of the series, or Referenced Segment"),
    ("region", "SEG, binary"),
    ("parametric map", "PM, CT only, off unless `objects` has it"),
    ("tracking", "SR and SEG: Tracking Unique Identifier, one a finding"),
)
"""Primitives of AI Results, and the objects that carry them."""


_PERFORMER = "Task Performer, with a Task Manager for its own work items"


def offered(method: str, pattern: str) -> bool:
    """Whether this version has a resource; {} in the pattern stands for any one segment."""
    wanted = pattern.split("/")
    return any(
        found == method and len(parts := path.split("/")) == len(wanted)
        and all(one == other or other == "{}" for one, other in zip(parts, wanted, strict=True))
        for found, path, _ in web.transactions("ups")
    )  # fmt: skip


def _claims() -> str:
    carried = "SR by TID 1500 as root, with SEG, PM, SC and KOS that it refers to; tracking UIDs; storage commitment"
    return table(
        ("profile", "actor", "options", "what it rests on"),
        [
            ("AI Results (AIR), trial implementation", "Evidence Creator", "C-STORE, STOW-RS", carried),
            ("AI Workflow for Imaging (AIW-I), trial implementation", _PERFORMER, "UPS-RS", "see below"),
            ("Key Image Note (KIN)", "Evidence Creator", "-", "KOS by TID 2010; storage commitment"),
        ],
    )


def text() -> str:
    """The statement as Markdown."""
    rows = [
        (number, name, f"`{method} {pattern}`", "yes" if offered(method, pattern) else "no")
        for number, name, method, pattern in _AIW_I
    ]
    return f"""# IHE Integration Statement: Pellucid {__version__}

This text is made from the code (`make conformance`).

**Nothing below has been tested at a Connectathon, by Gazelle, or by anybody who speaks for IHE.** It says which actors were
implemented against the published profiles, and what each rests on. Research software, no medical device.

{_claims()}

## AI Results

The primitives of the profile and the objects that carry them:

{table(("primitive", "object"), _PRIMITIVES)}

The SR names the images that were looked at, the algorithm with version and parameters, and how the run ended; negative,
ungradable and out-of-scope results have an SR too. Codes, templates and content trees: the DICOM Conformance Statement,
annexes A and B.

Not done: results as TID 1500 with 3D coordinates (SCOORD3D), Comprehensive SR for receivers without Comprehensive 3D SR,
presentation states.

## AI Workflow for Imaging

{table(("transaction", "name", "resource", "offered"), rows)}

Work items are created here, and their images are sent here beforehand. Not done: UPS over DIMSE; claiming work items of a
manager elsewhere; retrieving the images of a work item from another archive; notifications over a WebSocket (RAD-87, RAD-109),
which are server-sent events instead.

## Profiles that are not claimed

Scheduled Workflow, Post-Acquisition Workflow, Consistent Time, Audit Trail and Node Authentication, Cross-Enterprise Document
Sharing for Imaging, Eye Care profiles. Web-based Image Access: QIDO-RS, WADO-RS and STOW-RS are offered, the profile is not
claimed. The clock of the computer, audit trails and user authentication are left to what runs around Pellucid.
"""
