"""UPS-RS as a client meets it: every transaction of PS3.18 chapter 11 with its statuses, headers and state machine."""

from __future__ import annotations

import itertools
import json
import threading
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.http.workitems import subscribers

ROOT, MEDIA = "/dicomweb/workitems", "application/dicom+json"
GLOBAL, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"
NUMBERS = itertools.count(1)

LABEL, PRIORITY, START, READY = "00741204", "00741200", "00404005", "00404041"
STATE, TRANSACTION, INPUT, PROGRESS, PERFORMED = "00741000", "00081195", "00404021", "00741002", "00741216"
PATIENT, NAME, STATION = "00100020", "00100010", "00404025"


def code(value: str, scheme: str = "99X", meaning: str = "m") -> dict[str, Any]:
    return {
        "00080100": {"vr": "SH", "Value": [value]},
        "00080102": {"vr": "SH", "Value": [scheme]},
        "00080104": {"vr": "LO", "Value": [meaning]},
    }


def reference(study: str = "1.2.3", series: str = "1.2.4", sop: str = "1.2.5") -> dict[str, Any]:
    instance = {
        "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
        "00081155": {"vr": "UI", "Value": [sop]},
    }
    return {
        "0040E020": {"vr": "CS", "Value": ["DICOM"]},
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [series]},
        "00081199": {"vr": "SQ", "Value": [instance]},
    }


def new(**more: Any) -> dict[str, Any]:
    """A work item for nobody in particular; `more` sets or, with None, removes entries by tag (t00741204=...)."""
    dataset: dict[str, Any] = {
        PRIORITY: {"vr": "CS", "Value": ["MEDIUM"]},
        LABEL: {"vr": "LO", "Value": ["Something else"]},
        START: {"vr": "DT", "Value": ["20260101120000+0000"]},
        READY: {"vr": "CS", "Value": ["READY"]},
        STATE: {"vr": "CS", "Value": ["SCHEDULED"]},
        INPUT: {"vr": "SQ", "Value": [reference()]},
        "00404018": {"vr": "SQ", "Value": [code("110005", "DCM", "Interpretation")]},
        NAME: {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        PATIENT: {"vr": "LO", "Value": ["P-1"]},
    }
    for key, entry in more.items():
        dataset[key[1:]] = entry
    return {key: entry for key, entry in dataset.items() if entry is not None}


def send(client: FlaskClient, method: str, path: str, body: Any = None, **more: Any) -> TestResponse:
    data = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
    return client.open(f"{ROOT}{path}", method=method, data=data, **{"content_type": MEDIA, **more})


def state(client: FlaskClient, uid: str, target: str, transaction: str | None) -> TestResponse:
    body: dict[str, Any] = {STATE: {"vr": "CS", "Value": [target]}}
    if transaction is not None:
        body[TRANSACTION] = {"vr": "UI", "Value": [transaction]}
    return send(client, "PUT", f"/{uid}/state", [body])


def read(client: FlaskClient, uid: str) -> dict[str, Any]:
    response = client.get(f"{ROOT}/{uid}")
    assert response.status_code == 200, response.text
    (dataset,) = response.get_json()
    return dict(dataset)


def warnings(response: TestResponse) -> str:
    return " ".join(response.headers.getlist("Warning"))


def value(dataset: dict[str, Any], *path: str) -> Any:
    for tag in path:
        dataset = dataset[tag]["Value"][0]
    return dataset


PERFORMED_ITEM = {
    "00404028": {"vr": "SQ", "Value": [code("S")]},
    "00404050": {"vr": "DT", "Value": ["20260101"]},
    "00404051": {"vr": "DT", "Value": ["20260102"]},
    "00404019": {"vr": "SQ", "Value": [code("W")]},
    "00404033": {"vr": "SQ"},
}
CANCELED_ITEM = {
    "00404052": {"vr": "DT", "Value": ["20260102"]},
    "0074100E": {"vr": "SQ", "Value": [code("110513", "DCM", "Discontinued for unspecified reason")]},
}
FINAL = {
    "COMPLETED": {PERFORMED: {"vr": "SQ", "Value": [PERFORMED_ITEM]}},
    "CANCELED": {PROGRESS: {"vr": "SQ", "Value": [CANCELED_ITEM]}},
}


@pytest.fixture
def uid(client: FlaskClient) -> str:
    """A scheduled work item."""
    uid = f"2.25.{next(NUMBERS)}"
    assert send(client, "POST", f"?{uid}", [new()]).status_code == 201
    return uid


def at(client: FlaskClient, uid: str, where: str, transaction: str = "1.9") -> None:
    """Bring a scheduled work item to a state."""
    if where != "SCHEDULED":
        assert state(client, uid, "IN PROGRESS", transaction).status_code == 200
    if where in FINAL:
        assert send(client, "POST", f"/{uid}?{transaction}", [FINAL[where]]).status_code == 200
        assert state(client, uid, where, transaction).status_code == 200


# -- create and retrieve ----------------------------------------------------------------------------------------------------


def test_a_work_item_is_created_under_the_uid_of_the_query_and_read_back(client: FlaskClient) -> None:
    uid = f"2.25.{next(NUMBERS)}"
    response = send(client, "POST", f"?{uid}", [new()])
    assert (response.status_code, response.data) == (201, b"")
    assert response.headers["Location"] == f"http://localhost{ROOT}/{uid}"
    found = client.get(f"{ROOT}/{uid}")
    assert found.content_type == MEDIA
    dataset = found.get_json()[0]
    assert {key: dataset[key] for key in new()} == new()
    assert value(dataset, "00080016") == "1.2.840.10008.5.1.4.34.6.1" and value(dataset, "00080018") == uid
    assert value(dataset, "00741202") and value(
        dataset, "00404010"
    )  # worklist label and modification time are filled in


@pytest.mark.parametrize("how", ["?workitem={}", "00080018", "00001000"])
def test_the_uid_may_be_elsewhere(client: FlaskClient, how: str) -> None:
    uid = f"2.25.{next(NUMBERS)}"
    body = new() if "?" in how else {**new(), how: {"vr": "UI", "Value": [uid]}}
    response = send(client, "POST", how.format(uid) if "?" in how else "", body)  # bare, not in a list
    assert response.status_code == 201 and response.headers["Location"].endswith(f"/{uid}")
    assert "00001000" not in read(client, uid)


def test_without_a_uid_one_is_made(client: FlaskClient) -> None:
    response = send(client, "POST", "", [new()])
    assert response.status_code == 201
    assert value(read(client, response.headers["Location"].rpartition("/")[2]), LABEL) == "Something else"


def test_a_uid_is_taken_once(client: FlaskClient, uid: str) -> None:
    response = send(client, "POST", f"?{uid}", [new(t00741204={"vr": "LO", "Value": ["another"]})])
    assert response.status_code == 409
    assert value(read(client, uid), LABEL) == "Something else"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"t00741200": None}, "ScheduledProcedureStepPriority"),
        ({"t00741200": {"vr": "CS", "Value": ["URGENT"]}}, "ScheduledProcedureStepPriority"),
        ({"t00741204": {"vr": "LO"}}, "ProcedureStepLabel"),
        ({"t00741204": {"vr": "LO", "Value": ["x" * 65]}}, "ProcedureStepLabel"),
        ({"t00404005": {"vr": "DT", "Value": ["tomorrow"]}}, "ScheduledProcedureStepStartDateTime"),
        ({"t00404005": {"vr": "DT", "Value": ["20260101", "20260102"]}}, "ScheduledProcedureStepStartDateTime"),
        ({"t00404041": {"vr": "CS", "Value": ["MAYBE"]}}, "InputReadinessState"),
        ({"t00741000": None}, "ProcedureStepState"),
        ({"t00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}}, "ProcedureStepState"),
        ({"t00081195": {"vr": "UI", "Value": ["1.2"]}}, "TransactionUID"),
        ({"t00741002": {"vr": "SQ", "Value": [CANCELED_ITEM]}}, "ProcedureStepProgressInformationSequence"),
        ({"t00741216": {"vr": "SQ", "Value": [PERFORMED_ITEM]}}, "UnifiedProcedureStepPerformedProcedureSequence"),
        ({"t00100010": None}, "PatientName"),
        ({"t00100020": None}, "PatientID"),
        ({"t00404021": None}, "InputInformationSequence"),
        ({"t00404021": {"vr": "SQ", "Value": [{}]}}, "InputInformationSequence[1].TypeOfInstances"),
        (
            {"t00404021": {"vr": "SQ", "Value": [{**reference(), "00081199": {"vr": "SQ"}}]}},
            "InputInformationSequence[1].ReferencedSOPSequence",
        ),
        (
            {"t00404021": {"vr": "SQ", "Value": [reference(), reference(series="")]}},
            "InputInformationSequence[2].SeriesInstanceUID",
        ),
        ({"t00404018": {"vr": "SQ", "Value": [{}]}}, "ScheduledWorkitemCodeSequence[1]"),
        (
            {"t00404025": {"vr": "SQ", "Value": [code("A", meaning="")]}},
            "ScheduledStationNameCodeSequence[1].CodeMeaning",
        ),
        ({"t00080016": {"vr": "UI", "Value": ["1.2"]}}, "SOPClassUID"),
    ],
)
def test_what_the_attribute_table_forbids_is_refused_by_name(
    client: FlaskClient, change: dict[str, Any], where: str
) -> None:
    uid = f"2.25.{next(NUMBERS)}"
    response = send(client, "POST", f"?{uid}", [new(**change)])
    assert response.status_code == 400, response.text
    assert where in [error["where"] for error in response.get_json()["errors"]]
    assert "Doe" not in response.text and "P-1" not in response.text
    assert client.get(f"{ROOT}/{uid}").status_code == 404


def test_type_2_attributes_may_be_empty_and_an_empty_transaction_uid_too(client: FlaskClient) -> None:
    body = new(
        t00100010={"vr": "PN"}, t00100020={"vr": "LO"}, t00404021={"vr": "SQ"}, t00081195={"vr": "UI"}, t00741216={"vr": "SQ"}
    )  # fmt: skip
    assert send(client, "POST", "", [body]).status_code == 201


DEEP = '[{"00404018":' + '{"vr":"SQ","Value":[{"00404018":' * 200 + "1" + "}]}" * 200 + "}]"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"[1]", b"[{},{}]", b'"text"', b"\xff\xfe", b"[" * 100_000, DEEP,
        [{"00741204": "text"}],
        [{"00741204": {"Value": ["no vr"]}}],
        [{"00741204": {"vr": "SQ", "Value": ["x"]}}],
        [{"00741204": {"vr": "LO", "Value": "text"}}],
        [{"00741204": {"vr": "LO", "Value": [{"a": 1}]}}],
        [{"00741204": {"vr": ["LO"], "Value": ["x"]}}],
        [{"00741204": {"vr": "LO", "Value": [["x"]]}}],
        [{"00741204": {"vr": "LO", "BulkDataURI": "file:///etc/passwd"}}],
        [{"PatientID": {"vr": "LO", "Value": ["x"]}}],
        [{"0010002": {"vr": "LO", "Value": ["x"]}}],
        [{"00741004": {"vr": "DS", "Value": ["NaN"]}}],
        b'[{"00741004": {"vr": "DS", "Value": [1e999]}}]',
        [{"00741204": {"vr": "LO", "Value": ["\ud800"]}}],
    ],
    ids=lambda body: str(body)[:40],
)  # fmt: skip
def test_what_is_no_dicom_json_is_refused(client: FlaskClient, uid: str, body: Any) -> None:
    for method, path in (("POST", ""), ("POST", f"/{uid}"), ("PUT", f"/{uid}/state")):
        response = send(client, method, path, body)
        assert response.status_code == 400, (method, path, response.text)
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "entry",
    [
        {"00100020": {"vr": "SQ", "Value": [{}]}},
        {"00100010": {"vr": "LO", "Value": ["Doe"]}},
        {"00404021": {"vr": "LO", "Value": ["x"]}},
        {"0020000D": {"vr": "UI", "Value": ["../../etc"]}},
        {"00404021": {"vr": "SQ", "Value": [{"0020000D": {"vr": "LO", "Value": ["x"]}}]}},
        {"00420011": {"vr": "OB", "BulkDataURI": "bulkdata/00420011"}},
    ],
)
def test_a_known_attribute_has_its_own_value_representation(client: FlaskClient, entry: dict[str, Any]) -> None:
    response = send(client, "POST", "", [{**new(), **entry}])
    assert response.status_code == 400 and response.get_json()["errors"], response.text


def test_other_attributes_and_private_ones_are_kept_and_numbers_may_be_texts(client: FlaskClient) -> None:
    more = {
        "00091001": {"vr": "LO", "Value": ["private"]},
        "0040a30a": {"vr": "DS", "Value": ["1.5", 2]},
        "00101020": {"vr": "DS", "Value": [None, 1.8]},
    }
    response = send(client, "POST", "", [{**new(), **more}])
    assert response.status_code == 201, response.text
    found = read(client, response.headers["Location"].rpartition("/")[2])
    assert found["0040A30A"]["Value"] == [1.5, 2] and value(found, "00091001") == "private"


@pytest.mark.parametrize(
    "query", ["?1.2&1.3", "?workitem=1.2&1.3", "?nonsense=1", "?workitem=1..2", "?1.02", "?" + "1" * 65]
)
def test_a_query_that_names_no_one_uid_is_refused(client: FlaskClient, query: str) -> None:
    assert send(client, "POST", query, [new()]).status_code == 400


def test_a_uid_in_the_data_set_must_be_that_of_the_query(client: FlaskClient) -> None:
    body = {**new(), "00080018": {"vr": "UI", "Value": ["2.25.1234567"]}}
    assert send(client, "POST", "?2.25.7654321", [body]).status_code == 400


def test_only_dicom_json_comes_in_and_goes_out(client: FlaskClient, uid: str) -> None:
    for kind in ("application/dicom+xml", "text/plain", "multipart/form-data; boundary=x"):
        for method, path in (
            ("POST", ""),
            ("POST", f"/{uid}"),
            ("PUT", f"/{uid}/state"),
            ("POST", f"/{uid}/cancelrequest"),
        ):
            assert send(client, method, path, b"<xml/>", content_type=kind).status_code == 415, (kind, method, path)
    for path in ("", f"/{uid}"):
        assert client.get(f"{ROOT}{path}", headers={"Accept": "application/dicom+xml"}).status_code == 406
        assert client.get(f"{ROOT}{path}", headers={"Accept": MEDIA}).status_code == 200


def test_what_is_too_large_is_refused(client: FlaskClient) -> None:
    assert send(client, "POST", "", b" " * (9 << 20)).status_code == 413


def test_what_does_not_exist_is_404(client: FlaskClient) -> None:
    assert client.get(f"{ROOT}/1.2.99").status_code == 404
    assert send(client, "POST", "/1.2.99", [{LABEL: {"vr": "LO", "Value": ["x"]}}]).status_code == 404
    assert state(client, "1.2.99", "IN PROGRESS", "1.1").status_code == 404
    assert send(client, "POST", "/1.2.99/cancelrequest").status_code == 404
    for path in ("/1.2.99/subscribers/A", "/1.2.99/subscribers/A"):
        assert client.post(f"{ROOT}{path}").status_code == 404
        assert client.delete(f"{ROOT}{path}").status_code == 404


# -- the state machine: PS3.4 table CC.1.1-2 --------------------------------------------------------------------------------

INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."
TABLE = [
    # target, correct Transaction UID, status in SCHEDULED, IN PROGRESS, COMPLETED, CANCELED; 0: no Transaction UID fits there
    ("IN PROGRESS", True, 200, 409, 409, 409),  # -, C302, C300, C300
    ("IN PROGRESS", False, 0, 400, 400, 400),  # C301
    ("SCHEDULED", True, 400, 400, 400, 400),  # C303
    ("COMPLETED", True, 409, 409, 200, 409),  # C310, C304, B306, C300
    ("COMPLETED", False, 409, 400, 400, 400),  # C310, C301
    ("CANCELED", True, 409, 409, 409, 200),  # C310, C304, C300, B304
    ("CANCELED", False, 409, 400, 400, 400),
]
STATES = ("SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED")
CELLS = [
    (where, row[0], row[1], status) for row in TABLE for where, status in zip(STATES, row[2:], strict=True) if status
]


@pytest.mark.parametrize(("where", "target", "correct", "status"), CELLS)
def test_state_changes(client: FlaskClient, uid: str, where: str, target: str, correct: bool, status: int) -> None:
    at(client, uid, where)
    before = read(client, uid)
    response = state(client, uid, target, "1.9" if correct else "1.8")
    assert response.status_code == status, response.text
    if status == 200 and where == target:
        assert warnings(response).endswith(f"The UPS is already in the requested state of {target}.")
        assert warnings(response).startswith("299 http://localhost/dicomweb: ")
    elif status == 200:
        assert value(read(client, uid), STATE) == target and not warnings(response)
        return
    elif status == 400 and target != "SCHEDULED":
        assert "The Transaction UID is incorrect." in warnings(response)
    else:
        assert INCONSISTENT in warnings(response)
    assert read(client, uid) == before


@pytest.mark.parametrize("target", ["COMPLETED", "CANCELED"])
def test_a_final_state_is_reached_when_its_requirements_are_met(client: FlaskClient, uid: str, target: str) -> None:
    at(client, uid, "IN PROGRESS")
    (sequence, entry), *_ = FINAL[target].items()
    (item,) = entry["Value"]
    for leave in item:
        part = {sequence: {"vr": "SQ", "Value": [{key: v for key, v in item.items() if key != leave}]}}
        assert send(client, "POST", f"/{uid}?1.9", [part]).status_code == 200
        response = state(client, uid, target, "1.9")
        assert (response.status_code, len(response.get_json()["errors"])) == (409, 1), leave
    assert send(client, "POST", f"/{uid}?1.9", [FINAL[target]]).status_code == 200
    assert state(client, uid, target, "1.9").status_code == 200
    assert value(read(client, uid), STATE) == target


def test_a_state_change_needs_a_transaction_uid_and_a_state(client: FlaskClient, uid: str) -> None:
    response = state(client, uid, "IN PROGRESS", None)
    assert response.status_code == 400 and "The Transaction UID is missing." in warnings(response)
    assert state(client, uid, "PAUSED", "1.9").status_code == 400
    assert state(client, uid, "IN PROGRESS", "1.09").status_code == 400
    assert send(client, "PUT", f"/{uid}/state", [{TRANSACTION: {"vr": "UI", "Value": ["1.9"]}}]).status_code == 400
    assert value(read(client, uid), STATE) == "SCHEDULED"


def test_the_transaction_uid_is_a_secret(client: FlaskClient, uid: str) -> None:
    at(client, uid, "IN PROGRESS", "1.9.777")
    assert client.post(f"{ROOT}/{uid}/subscribers/SPY").status_code == 201
    for path in (f"/{uid}", f"?00080018={uid}&includefield=all", f"?00080018={uid}&includefield=TransactionUID"):
        text = client.get(f"{ROOT}{path}").text
        assert TRANSACTION not in text and "1.9.777" not in text
    search = client.get(f"{ROOT}?TransactionUID=1.9.777")
    assert "ignored: TransactionUID" in warnings(search)
    assert "1.9.777" not in state(client, uid, "COMPLETED", "1.8").text


def test_of_two_claims_one_wins(app: Flask, client: FlaskClient, uid: str) -> None:
    start, statuses = threading.Barrier(6), []

    def claim(transaction: str) -> None:
        own = app.test_client()
        start.wait()
        statuses.append(state(own, uid, "IN PROGRESS", transaction).status_code)

    threads = [threading.Thread(target=claim, args=(f"1.9.{n}",)) for n in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(statuses) == [200, 400, 400, 400, 400, 400]


# -- update -----------------------------------------------------------------------------------------------------------------

CHANGE = {LABEL: {"vr": "LO", "Value": ["changed"]}}


def test_a_scheduled_work_item_is_updated_without_a_transaction_uid(client: FlaskClient, uid: str) -> None:
    before = read(client, uid)
    assert send(client, "POST", f"/{uid}", [CHANGE]).status_code == 200
    after = read(client, uid)
    assert value(after, LABEL) == "changed" and after[PATIENT] == before[PATIENT]
    assert value(after, "00404010") > value(before, "00404010")
    response = send(client, "POST", f"/{uid}?1.9", [CHANGE])
    assert response.status_code == 400 and "did not reference a claimed Workitem" in warnings(response)


@pytest.mark.parametrize(
    ("query", "more", "status", "warning"),
    [
        ("", {}, 400, "The Transaction UID is missing."),
        ("?1.8", {}, 400, "The Transaction UID is incorrect."),
        ("?1.9", {}, 200, ""),
        ("?transaction-uid=1.9", {}, 200, ""),
        ("", {TRANSACTION: {"vr": "UI", "Value": ["1.9"]}}, 200, ""),
        ("?1.9", {TRANSACTION: {"vr": "UI", "Value": ["1.8"]}}, 400, ""),
    ],
)
def test_who_claimed_a_work_item_updates_it(
    client: FlaskClient, uid: str, query: str, more: dict[str, Any], status: int, warning: str
) -> None:
    at(client, uid, "IN PROGRESS")
    response = send(client, "POST", f"/{uid}{query}", [{**CHANGE, **more}])
    assert response.status_code == status and warning in warnings(response)
    assert value(read(client, uid), LABEL) == ("changed" if status == 200 else "Something else")
    assert TRANSACTION not in read(client, uid)


@pytest.mark.parametrize("where", ["COMPLETED", "CANCELED"])
def test_what_ended_is_no_longer_updated(client: FlaskClient, uid: str, where: str) -> None:
    at(client, uid, where)
    response = send(client, "POST", f"/{uid}?1.9", [CHANGE])
    assert response.status_code == 400
    assert "inconsistent with the current state of the Workitem" in warnings(response)


@pytest.mark.parametrize(
    "change",
    [
        {STATE: {"vr": "CS", "Value": ["COMPLETED"]}},
        {PATIENT: {"vr": "LO", "Value": ["P-2"]}},
        {NAME: {"vr": "PN"}},
        {"00080018": {"vr": "UI", "Value": ["1.2"]}},
        {READY: {"vr": "CS"}},
        {PRIORITY: {"vr": "CS", "Value": ["URGENT"]}},
        {INPUT: {"vr": "SQ", "Value": [{}]}},
    ],
)
def test_what_the_attribute_table_forbids_cannot_be_set(client: FlaskClient, uid: str, change: dict[str, Any]) -> None:
    before = read(client, uid)
    assert send(client, "POST", f"/{uid}", [{**CHANGE, **change}]).status_code == 400
    assert read(client, uid) == before


# -- request cancellation ---------------------------------------------------------------------------------------------------


def test_a_scheduled_work_item_is_canceled_by_way_of_in_progress(client: FlaskClient, uid: str) -> None:
    assert client.post(f"{ROOT}/{uid}/subscribers/WATCH1").status_code == 201
    asked = {
        "00741238": {"vr": "LT", "Value": ["not needed"]},
        "0074100E": {"vr": "SQ", "Value": [code("110500", "DCM", "Doctor canceled procedure")]},
    }
    assert send(client, "POST", f"/{uid}/cancelrequest", [asked]).status_code == 202
    found = read(client, uid)
    assert value(found, STATE) == "CANCELED"
    assert value(found, PROGRESS, "00741238") == "not needed" and value(found, PROGRESS, "00404052")
    assert value(found, PROGRESS, "0074100E", "00080100") == "110500"
    assert [event[STATE]["Value"][0] for event in events(client, "WATCH1", 3)] == [
        "SCHEDULED",
        "IN PROGRESS",
        "CANCELED",
    ]
    again = send(client, "POST", f"/{uid}/cancelrequest")
    assert again.status_code == 202 and "already in the requested state of CANCELED" in warnings(again)


def test_a_request_without_a_body_gives_the_unspecified_reason(client: FlaskClient, uid: str) -> None:
    assert client.post(f"{ROOT}/{uid}/cancelrequest").status_code == 202
    assert value(read(client, uid), PROGRESS, "0074100E", "00080100") == "110513"


def test_a_completed_work_item_is_not_canceled(client: FlaskClient, uid: str) -> None:
    at(client, uid, "COMPLETED")
    response = send(client, "POST", f"/{uid}/cancelrequest")
    assert response.status_code == 409 and "The UPS is already COMPLETED." in warnings(response)


def test_a_work_item_that_others_perform_is_theirs_to_cancel(client: FlaskClient, uid: str) -> None:
    at(client, uid, "IN PROGRESS")
    response = send(client, "POST", f"/{uid}/cancelrequest")
    assert response.status_code == 409 and "The performer cannot be contacted." in warnings(response)
    assert client.post(f"{ROOT}/{uid}/subscribers/DOER").status_code == 201
    asked = {"00741238": {"vr": "LT", "Value": ["please"]}, "00741236": {"vr": "AE", "Value": ["ASKER"]}}
    assert send(client, "POST", f"/{uid}/cancelrequest", [asked]).status_code == 202
    assert value(read(client, uid), STATE) == "IN PROGRESS"
    event = events(client, "DOER", 2)[1]
    assert event["00001002"]["Value"] == [2]
    assert (value(event, "00741238"), value(event, "00741236")) == ("please", "ASKER")


# -- search -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(client: FlaskClient) -> list[str]:
    """Three work items of one patient whom nobody else has."""
    patient = f"S-{next(NUMBERS)}"
    made = []
    for n in range(3):
        uid = f"2.25.{next(NUMBERS)}"
        body = new(
            t00100020={"vr": "LO", "Value": [patient]},
            t00404005={"vr": "DT", "Value": [f"2026010{n + 1}120000+0000"]},
            t00404025={"vr": "SQ", "Value": [code(f"STATION{n}")]},
        )
        assert send(client, "POST", f"?{uid}", [body]).status_code == 201
        made.append(uid)
    return [patient, *made]


def found(response: TestResponse) -> list[str]:
    return [value(one, "00080018") for one in response.get_json()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3]),
        ("ProcedureStepState=SCHEDULED", [1, 2]),
        ("00741000=IN%20PROGRESS", [3]),
        ("ScheduledStationNameCodeSequence.CodeValue=STATION1", [2]),
        ("00404025.00080100=STATION*", [1, 2, 3]),
        ("ScheduledProcedureStepStartDateTime=20260102-", [2, 3]),
        ("ScheduledProcedureStepStartDateTime=20260101-20260102", [1, 2]),
        ("ProcedureStepLabel=Some*", [1, 2, 3]),
        ("PatientName=doe^jane", [1, 2, 3]),
        ("PatientName=jan&fuzzymatching=true", [1, 2, 3]),
        ("ProcedureStepLabel=Some*&ScheduledStationNameCodeSequence.CodeValue=STATION0", [1]),
    ],
)
def test_search_finds_by_any_attribute(client: FlaskClient, three: list[str], query: str, expected: list[int]) -> None:
    at(client, three[3], "IN PROGRESS")
    response = client.get(f"{ROOT}?PatientID={three[0]}&{query}")
    assert response.status_code == 200 and response.content_type == MEDIA
    assert found(response) == [three[n] for n in expected]


def test_search_pages_and_says_when_there_is_more(client: FlaskClient, three: list[str]) -> None:
    root = f"{ROOT}?PatientID={three[0]}"
    first = client.get(f"{root}&limit=2")
    assert first.status_code == 206 and "Additional results can be requested." in warnings(first)
    assert found(first) == three[1:3]
    rest = client.get(f"{root}&limit=2&offset=2")
    assert rest.status_code == 200 and not warnings(rest) and found(rest) == three[3:]
    none = client.get(f"{root}&offset=3")
    assert (none.status_code, none.data) == (204, b"")
    assert client.get(f"{ROOT}?PatientID=nobody").status_code == 204


def test_search_gives_return_keys_and_what_is_asked_for(client: FlaskClient, three: list[str]) -> None:
    root = f"{ROOT}?PatientID={three[0]}&limit=1"
    body = {
        PROGRESS: {"vr": "SQ", "Value": [CANCELED_ITEM]},
        **FINAL["COMPLETED"],
        "00400400": {"vr": "LT", "Value": ["c"]},
    }
    assert send(client, "POST", f"/{three[1]}", [body]).status_code == 200
    plain = client.get(root).get_json()[0]
    assert {STATE, LABEL, PATIENT, NAME, INPUT, "00080018"} <= set(plain) and not {PERFORMED, "00400400"} & set(plain)
    assert "00400400" in client.get(f"{root}&includefield=CommentsOnTheScheduledProcedureStep").get_json()[0]
    assert {PERFORMED, "00400400"} <= set(client.get(f"{root}&includefield=all").get_json()[0])


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "limit=-1",
        "offset=1.5",
        "fuzzymatching=maybe",
        "ScheduledProcedureStepStartDateTime=soon",
        "00080018=x",
    ],
)
def test_a_search_that_cannot_be_understood_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"{ROOT}?{query}").status_code == 400


def test_unknown_parameters_are_named(client: FlaskClient, uid: str) -> None:
    response = client.get(f"{ROOT}?NoSuchThing=1&00080018={uid}")
    assert response.status_code == 200 and "an unknown attribute" in warnings(response)


# -- subscriptions ----------------------------------------------------------------------------------------------------------


def events(client: FlaskClient, ae: str, count: int, last: str = "0") -> list[dict[str, Any]]:
    """The next event reports of a stream, which goes on afterwards."""
    response = client.get(f"/dicomweb/subscribers/{ae}/events", headers={"Last-Event-ID": last}, buffered=False)
    assert response.status_code == 200 and response.mimetype == "text/event-stream"
    got: list[dict[str, Any]] = []
    end = time.monotonic() + 60
    for chunk in response.response:
        text = chunk if isinstance(chunk, str) else chunk.decode()
        if "data: " in text:
            lines = dict(line.split(": ", 1) for line in text.strip().split("\n"))
            got.append({**json.loads(lines["data"]), "id": lines["id"]})
        if len(got) == count or time.monotonic() > end:
            break
    response.close()
    assert len(got) == count, got
    return got


def test_a_subscriber_follows_a_work_item(client: FlaskClient, uid: str) -> None:
    response = client.post(f"{ROOT}/{uid}/subscribers/FOLLOWER?deletionlock=true")
    assert response.status_code == 201
    assert response.headers["Content-Location"] == "http://localhost/dicomweb/subscribers/FOLLOWER/events"
    assert "server-sent events" in warnings(response)
    at(client, uid, "COMPLETED")
    got = events(client, "FOLLOWER", 3)
    assert [value(one, STATE) for one in got] == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    assert {value(one, "00001000") for one in got} == {uid} and {value(one, "00001002") for one in got} == {1}
    assert len({value(one, "00000110") for one in got}) == 3
    assert [value(one, STATE) for one in events(client, "FOLLOWER", 1, got[1]["id"])] == ["COMPLETED"]
    assert client.delete(f"{ROOT}/{uid}/subscribers/FOLLOWER").status_code == 200
    assert client.delete(f"{ROOT}/{uid}/subscribers/FOLLOWER").status_code == 404


def test_a_global_subscriber_follows_what_comes(client: FlaskClient) -> None:
    assert client.post(f"{ROOT}/{GLOBAL}/subscribers/ALL").status_code == 201
    uid = f"2.25.{next(NUMBERS)}"
    send(client, "POST", f"?{uid}", [new(t00404025={"vr": "SQ", "Value": [code("ROOM1")]})])
    got = events(client, "ALL", 2)
    assert [value(one, "00001000") for one in got] == [uid, uid]
    assert [value(one, "00001002") for one in got] == [1, 5]
    assert value(got[1], STATION, "00080100") == "ROOM1"
    assert client.post(f"{ROOT}/{GLOBAL}/subscribers/ALL/suspend").status_code == 200
    assert client.post(f"{ROOT}/{GLOBAL}/subscribers/ALL/suspend").status_code == 404
    assert client.delete(f"{ROOT}/{GLOBAL}/subscribers/ALL").status_code == 404


@pytest.mark.parametrize(
    "query", ["filter=PatientID=F-1,ProcedureStepLabel=Some*", "PatientID=F-1&ProcedureStepLabel=Some*"]
)
def test_a_filtered_subscriber_follows_what_matches(client: FlaskClient, query: str) -> None:
    ae = f"FILTER{next(NUMBERS)}"
    assert client.post(f"{ROOT}/{FILTERED}/subscribers/{ae}?deletionlock=false&{query}").status_code == 201
    made = []
    for patient in ("F-2", "F-1"):
        made.append(f"2.25.{next(NUMBERS)}")
        send(client, "POST", f"?{made[-1]}", [new(t00100020={"vr": "LO", "Value": [patient]})])
    assert [value(one, "00001000") for one in events(client, ae, 1)] == [made[1]]
    assert client.delete(f"{ROOT}/{FILTERED}/subscribers/{ae}").status_code == 200


def test_subscriptions_that_make_no_sense_are_refused(client: FlaskClient, uid: str) -> None:
    post = client.post
    assert post(f"{ROOT}/{uid}/subscribers/A?deletionlock=perhaps").status_code == 400
    assert post(f"{ROOT}/{uid}/subscribers/" + "A" * 17).status_code == 400
    assert post(f"{ROOT}/{uid}/subscribers/A%5CB").status_code == 400
    assert post(f"{ROOT}/{FILTERED}/subscribers/A").status_code == 400
    assert post(f"{ROOT}/{FILTERED}/subscribers/A?filter=NoSuchThing=1").status_code == 400
    assert post(f"{ROOT}/{FILTERED}/subscribers/A?filter=TransactionUID=1.9").status_code == 400
    assert post(f"{ROOT}/{uid}/subscribers/A/suspend").status_code == 400
    assert client.get("/dicomweb/subscribers/A/events", headers={"Last-Event-ID": "x"}).status_code == 400


def test_the_stream_says_that_it_is_still_there(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "POLL_S", 0.01)
    monkeypatch.setattr(subscribers, "KEEP_ALIVE_S", 0.02)
    response = client.get("/dicomweb/subscribers/QUIET/events", buffered=False)
    assert any(
        b"still here" in (c if isinstance(c, bytes) else c.encode()) for c in itertools.islice(response.response, 3)
    )
    response.close()
