"""Work items that are for us are performed, once, whatever goes wrong on the way; all others are left alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from models import bundle as bundles
from service.config import Settings
from service.errors import Busy, Conflict, OutOfContract
from service.http import create_app
from service.pipeline import orders, performer
from service.pipeline.orders import SCHEME
from service.pipeline.performer import Performer
from service.pipeline.request import InvalidRequest
from service.pipeline.work import Work
from service.records import Arrival, Instance, Request
from service.store.analyses import Store
from service.store.moments import stamp
from service.store.rows import Analysis
from service.store.subscriptions import attribute, code, first, items
from service.store.workitems import (
    CANCELED,
    COMPLETED,
    IN_PROGRESS,
    PERFORMED,
    PROGRESS,
    SCHEDULED,
    Workitem,
    Workitems,
)
from tests.waiting import until

CT, STUDY, SERIES = "1.2.840.10008.5.1.4.1.1.2", "1.1", "1.5"
FOREIGN = code("110005", "DCM", "Interpretation")
LUNG = code("sisc_lung", SCHEME, "Lung nodules")
CODE, STATION, PARAMETERS = (
    "ScheduledWorkitemCodeSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledProcessingParametersSequence",
)


def parameter(name: str, text: str) -> dict[str, Any]:
    concept = attribute("ConceptNameCodeSequence", code(name, SCHEME, name))
    return {**attribute("ValueType", "TEXT"), **concept, **attribute("TextValue", text)}


def inputs(*uids: str, study: str = STUDY, series: str = SERIES) -> dict[str, Any]:
    references = [
        {**attribute("ReferencedSOPClassUID", CT), **attribute("ReferencedSOPInstanceUID", uid)} for uid in uids
    ]
    return {
        **attribute("TypeOfInstances", "DICOM"),
        **attribute("StudyInstanceUID", study),
        **attribute("SeriesInstanceUID", series),
        **attribute("ReferencedSOPSequence", *references),
    }


def dataset(*uids: str, **more: Any) -> dict[str, Any]:
    """What a work item is made from; `more` sets attributes by keyword, lists are several values."""
    made = {
        **attribute("InputReadinessState", "READY"),
        **attribute("ScheduledProcedureStepPriority", "MEDIUM"),
        **attribute("ScheduledProcedureStepStartDateTime", "20260101"),
        **attribute(CODE, LUNG),
        **attribute("InputInformationSequence", inputs(*(uids or ("1.2.1",)))),
    }
    for keyword, values in more.items():
        made |= attribute(keyword, *(values if isinstance(values, list) else [values]))
    return made


class Queued:
    """A queue that only accepts; a test says how its analyses go on."""

    def __init__(self, store: Store) -> None:
        self.store, self.stage = store, ""
        self.works: list[Work] = []
        self.error: Exception | None = None
        self.full = False

    def check_room(self) -> None:
        if self.full:
            raise Busy("full")

    def submit(self, work: Work, key: str, fingerprint: str, door: str) -> str:
        if self.error is not None:
            raise self.error
        self.works.append(work)
        return self.store.accept(
            model=work.model, instances=work.instances, request={}, key=key, fingerprint=fingerprint, door=door
        )

    def follow(self, identity: str, tick_s: float) -> Iterator[tuple[Analysis, str]]:
        yield self.store.get(identity), self.stage


class Bench:
    """A performer whose pipeline is one function."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "data", free_bytes=0)
        self.worklist = self.store.workitems
        self.queue: Any = Queued(self.store)
        self.work: Callable[[Sequence[Instance], Request], Work] = lambda instances, request: Work(
            request.model or "sisc_lung", tuple(instances), request
        )
        self.pipeline: Any = SimpleNamespace(
            bundles={name: bundles.load(models / name) for name in ("sisc_lung", "clear_dr")},
            work=lambda instances, request: self.work(instances, request),
        )
        self.settings = Settings(ae_title="PELLUCID")
        self.performer = self.another()

    def another(self) -> Performer:
        return Performer(self.store, self.pipeline, self.queue, self.settings)

    def file(self, *uids: str, sop_class: str = CT) -> None:
        """Put instances into the archive."""
        arrivals = []
        for uid in uids:
            path = self.folder / uid
            path.write_bytes(uid.encode())
            instance = Instance(
                path, hashlib.sha256(uid.encode()).hexdigest(), "dicom", 4, 4, uid, sop_class_uid=sop_class,
                series_uid=SERIES, study_uid=STUDY, modality="CT",
            )  # fmt: skip
            arrivals.append(Arrival(instance, "stow", "", "", ""))
        self.store.archive.add(arrivals)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.performer._pauses.clear()
            self.performer.look()

    def item(self, uid: str = "9.1") -> Workitem:
        return self.worklist.get(uid)

    def run(self, uid: str = "9.1") -> str:
        """Have the analysis of a work item begun; its id."""
        identity = self.item(uid).analysis
        assert identity and self.store.begin(identity)
        return identity

    def progress(self, keyword: str, uid: str = "9.1") -> Any:
        return first(self.item(uid).dataset, PROGRESS, keyword)

    def reason(self, uid: str = "9.1") -> Any:
        path = (PROGRESS, "ProcedureStepDiscontinuationReasonCodeSequence", "CodeValue")
        return first(self.item(uid).dataset, *path)

    def analyses(self) -> list[Analysis]:
        return self.store.page({})[0]


@pytest.fixture
def bench(tmp_path: Path, tiny_models: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, tiny_models)
    made.file("1.2.1", "1.2.2")
    yield made
    made.store.close()


OBJECTS = [
    {"kind": "SR", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34", "sop_instance_uid": "7.1", "series_uid": "7.0"},
    {"kind": "SC", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "sop_instance_uid": "8.1", "series_uid": "8.0"},
    {"kind": "SC", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "sop_instance_uid": "8.2", "series_uid": "8.0"},
]
RESULT = {
    "outcome": "positive",
    "objects": OBJECTS,
    "model": {"name": "sisc_lung", "version": "0.0.1", "device_uid": "2.25.1"},
}


def test_a_work_item_is_claimed_followed_and_completed_with_its_outputs(bench: Bench) -> None:
    bench.worklist.create("9.1", dataset("1.2.1", "1.2.2"))
    bench.worklist.subscriptions.subscribe("9.1", "WATCH", lock=False)
    bench.look()
    item = bench.item()
    assert (item.state, item.ours) == (IN_PROGRESS, True) and len(item.transaction) > 30
    (work,) = bench.queue.works
    assert [one.sop_instance_uid for one in work.instances] == ["1.2.1", "1.2.2"]
    assert work.request == Request(model="sisc_lung")
    assert bench.store.get(item.analysis or "").door == "ups"
    assert first(item.dataset, PERFORMED, "PerformedStationNameCodeSequence", "CodeValue") == "PELLUCID"

    identity = bench.run()
    percents = []
    for bench.queue.stage in ("decode", "quality", "model", "", "maps", "decode", "objects"):
        bench.look()
        percents.append(bench.progress("ProcedureStepProgress"))
    assert percents == sorted(percents) and len(set(percents)) == 5 and 0 < percents[0] < percents[-1] < 100
    assert bench.progress("ProcedureStepProgressDescription") == "objects"

    bench.store.complete(identity, RESULT)
    bench.look()
    item = bench.item()
    assert item.state == COMPLETED == first(item.dataset, "ProcedureStepState")
    performed = first(item.dataset, PERFORMED)
    assert first(performed, "PerformedProcedureStepStartDateTime") < first(
        performed, "PerformedProcedureStepEndDateTime"
    )
    assert items(performed, "PerformedWorkitemCodeSequence", "CodeValue") == ["sisc_lung"]
    assert items(performed, "PerformedProcessingParametersSequence", "TextValue") == ["sisc_lung", "0.0.1"]
    assert first(performed, "CommentsOnThePerformedProcedureStep") == "Outcome: positive"
    outputs = items(performed, "OutputInformationSequence")
    assert [items(one, "ReferencedSOPSequence", "ReferencedSOPInstanceUID") for one in outputs] == [
        ["7.1"],
        ["8.1", "8.2"],
    ]
    assert [first(one, "SeriesInstanceUID") for one in outputs] == ["7.0", "8.0"]
    assert {first(one, "StudyInstanceUID") for one in outputs} == {STUDY}
    assert first(outputs[1], "WADORSRetrievalSequence", "RetrieveURL") == f"/studies/{STUDY}/series/8.0"
    states = [first(body, "ProcedureStepState") for _, body in bench.worklist.subscriptions.events("WATCH")]
    assert [state for state in states if state] == [SCHEDULED, IN_PROGRESS, COMPLETED]
    bench.look(3)
    assert bench.item() == item and len(bench.queue.works) == 1


@pytest.mark.parametrize(
    ("more", "taken"),
    [
        ({}, True),
        ({CODE: []}, True),  # by content: the images are CT
        ({CODE: code("110004", "DCM", "Computer Aided Detection")}, True),
        ({CODE: FOREIGN}, False),
        ({CODE: code("sisc_lung", "99OTHER", "another's code")}, False),
        ({CODE: code("no_such", SCHEME, "no model of ours")}, False),
        ({STATION: code("PELLUCID", "L", "us")}, True),
        ({STATION: [code("OTHER", "L", "not us"), code("PELLUCID", "L", "us")]}, True),
        ({STATION: code("OTHER", "L", "not us")}, False),
        ({STATION: code("PELLUCID", "L", "us"), CODE: FOREIGN}, False),
        ({"ScheduledStationClassCodeSequence": code("PELLUCID", SCHEME, "us")}, True),
        ({"ScheduledStationClassCodeSequence": code("WORKSTATION", "L", "not us")}, False),
        ({"ScheduledHumanPerformersSequence": attribute("HumanPerformerName", {"Alphabetic": "Roe"})}, False),
        ({"InputReadinessState": "INCOMPLETE"}, False),
        ({"InputReadinessState": "UNAVAILABLE"}, False),
        ({"InputInformationSequence": inputs("1.2.1", "1.2.99")}, False),
        ({"InputInformationSequence": [inputs("1.2.1"), inputs("1.2.2", series="1.77")]}, True),  # found by its own UID
        ({"InputInformationSequence": [], CODE: []}, False),
    ],
)
def test_what_is_for_us_is_taken_and_nothing_else(bench: Bench, more: dict[str, Any], taken: bool) -> None:
    bench.worklist.create("9.1", dataset(**more))
    before = bench.item()
    bench.look(2)
    assert (bench.item().state == IN_PROGRESS) is taken
    assert len(bench.queue.works) == int(taken)
    if not taken:
        assert bench.item() == before


def test_images_that_no_model_takes_are_left_to_others_unless_we_are_named(bench: Bench) -> None:
    bench.file("1.3.1", sop_class="1.2.840.10008.5.1.4.1.1.4")
    bench.worklist.create("9.1", dataset("1.3.1", **{CODE: []}))
    bench.worklist.create("9.2", dataset("1.3.1"))
    bench.look()
    assert (bench.item("9.1").state, bench.item("9.2").state) == (SCHEDULED, IN_PROGRESS)


def test_what_somebody_else_claimed_is_left_alone(bench: Bench) -> None:
    bench.worklist.create("9.1", dataset())
    bench.worklist.change("9.1", lambda item: [item.to(IN_PROGRESS, transaction="5.5")])
    before = bench.item()
    bench.look(2)
    assert bench.item() == before and not bench.queue.works


def test_a_claim_between_our_look_and_our_claim_wins(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.worklist.create("9.1", dataset())
    absent = Workitems.absent

    def other(self: Workitems, uids: Any) -> set[str]:
        self.change("9.1", lambda item: [item.to(IN_PROGRESS, transaction="5.5")] if item.state == SCHEDULED else [])
        return absent(self, uids)

    monkeypatch.setattr(Workitems, "absent", other)
    bench.look()
    assert (bench.item().transaction, bench.item().analysis, bench.queue.works) == ("5.5", None, [])


def test_two_hosts_make_one_analysis(bench: Bench) -> None:
    other = bench.another()
    bench.worklist.create("9.1", dataset())
    ready = bench.performer._ready("9.1")
    assert ready is not None and ready == other._ready("9.1")
    claims = [bench.performer._claim(ready[0]), other._claim(ready[0])]
    assert [claim is not None for claim in claims] == [True, False]
    other.look()  # takes up what a host claimed and did not submit yet
    bench.performer._submit(bench.item())
    assert len(bench.queue.works) == 1 and bench.item().analysis == bench.analyses()[0].id


def test_it_begins_when_the_images_come_and_the_input_is_ready(bench: Bench) -> None:
    bench.worklist.create("9.1", dataset("1.2.1", "1.2.3", InputReadinessState="INCOMPLETE"))
    bench.look()
    bench.worklist.change("9.1", lambda item: [item.having(attribute("InputReadinessState", "READY"))])
    bench.look()
    assert bench.item().state == SCHEDULED
    bench.file("1.2.3")
    bench.look()
    assert bench.item().state == IN_PROGRESS


def test_what_cannot_begin_is_looked_at_less_and_less_until_it_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looked = [100.0], []
    monkeypatch.setattr(performer, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    ready = bench.performer._ready
    monkeypatch.setattr(bench.performer, "_ready", lambda uid: (looked.append(clock[0]), ready(uid))[1])
    bench.worklist.create("9.1", dataset("1.2.99"))
    for _ in range(400):
        bench.performer.look()
        clock[0] += 0.1
    gaps = [round(b - a, 1) for a, b in itertools.pairwise(looked)]
    assert gaps[0] < gaps[1] < gaps[-1] and max(gaps) <= performer.LONGEST_S + 0.2 and len(looked) < 15
    count = len(looked)
    bench.worklist.change("9.1", lambda item: [item.having(attribute("ProcedureStepLabel", "x"))])
    bench.performer.look()
    assert len(looked) == count + 1


def test_high_priority_comes_first_and_few_are_claimed_ahead(bench: Bench) -> None:
    for n, priority in enumerate(("LOW", "MEDIUM", "HIGH", "MEDIUM", "HIGH")):
        bench.worklist.create(f"9.{n}", dataset(ScheduledProcedureStepPriority=priority))
    bench.look(3)
    assert [n for n in range(5) if bench.item(f"9.{n}").state == IN_PROGRESS] == [2, 4]
    bench.run("9.2")
    bench.look()
    assert [n for n in range(5) if bench.item(f"9.{n}").state == IN_PROGRESS] == [1, 2, 4]


def test_a_full_queue_leaves_work_items_scheduled(bench: Bench) -> None:
    bench.worklist.create("9.1", dataset())
    bench.queue.full = True
    bench.look()
    assert bench.item().state == SCHEDULED
    bench.queue.full = False
    bench.look()
    assert bench.item().state == IN_PROGRESS


# -- what goes wrong --------------------------------------------------------------------------------------------------------


def test_a_crash_between_claim_and_submission_is_made_good(bench: Bench) -> None:
    bench.worklist.create("9.1", dataset())
    bench.queue.error = Busy("stands for a process that died here")
    bench.look()
    assert (bench.item().state, bench.item().analysis) == (IN_PROGRESS, "")
    bench.queue.error = None
    bench.another().look()
    assert bench.item().analysis == bench.analyses()[0].id and len(bench.queue.works) == 1


def test_a_crash_between_submission_and_its_record_makes_no_second_analysis(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    bench.worklist.create("9.1", dataset())
    submit = bench.queue.submit

    def die(*arguments: Any, **more: Any) -> str:
        submit(*arguments, **more)
        raise Killed

    monkeypatch.setattr(bench.queue, "submit", die)
    with pytest.raises(Killed):
        bench.look()
    monkeypatch.undo()
    assert bench.item().analysis == "" and len(bench.analyses()) == 1
    bench.another().look()
    assert bench.item().analysis == bench.analyses()[0].id and len(bench.analyses()) == 1


def test_of_two_hosts_that_submit_the_second_takes_the_first_ones(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.worklist.create("9.1", dataset())
    submit = bench.queue.submit

    def beaten(*arguments: Any, **more: Any) -> str:
        submit(*arguments, **more)
        raise Conflict("used at the same time")

    monkeypatch.setattr(bench.queue, "submit", beaten)
    bench.look()
    assert bench.item().analysis == bench.analyses()[0].id


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"type": "/docs#problem-unreadable", "detail": "slice 3 is broken"}, "110521"),
        ({"type": "/docs#problem-out-of-contract", "detail": "too thick"}, "110522"),
        ({"type": "/docs#problem-fault", "detail": "Incident 12"}, "110501"),
        ({"type": "/docs#problem-attempts", "detail": "given up"}, "110501"),
        ({"type": "/docs#problem-conflict", "detail": "other"}, "110513"),
    ],
)
def test_a_failed_analysis_cancels_its_work_item_and_says_why(bench: Bench, error: dict[str, Any], reason: str) -> None:
    bench.worklist.create("9.1", dataset())
    bench.look()
    identity = bench.run()
    bench.store.fail(identity, error)
    bench.look(2)
    assert (bench.item().state, bench.reason()) == (CANCELED, reason)
    assert bench.progress("ReasonForCancellation") == error["detail"] and bench.progress(
        "ProcedureStepCancellationDateTime"
    )
    assert bench.store.get(identity).status == "failed"  # it stays for a person to look at


def test_input_that_does_not_fit_cancels_the_work_item(bench: Bench) -> None:
    def refuse(instances: Sequence[Instance], request: Request) -> Work:
        raise OutOfContract("model sisc_lung takes chest CT series")

    bench.work = refuse
    bench.worklist.create("9.1", dataset())
    bench.look(2)
    assert (bench.item().state, bench.reason()) == (CANCELED, "110522")
    assert bench.progress("ReasonForCancellation") == "model sisc_lung takes chest CT series"
    assert bench.worklist.abandoned() == []


def test_a_work_item_for_us_without_input_is_canceled(bench: Bench) -> None:
    bench.worklist.create("9.1", dataset(InputInformationSequence=[]))
    bench.look()
    assert bench.item().state == CANCELED and "references no DICOM instances" in bench.progress("ReasonForCancellation")


def test_a_fault_is_tried_again_and_given_up_and_holds_up_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def broken(instances: Sequence[Instance], request: Request) -> Work:
        calls.append(1)
        if instances[0].sop_instance_uid == "1.2.1":
            raise RuntimeError("DOE^JANE")
        return Work("sisc_lung", tuple(instances), request)

    bench.work = broken
    bench.worklist.create("9.1", dataset("1.2.1"))
    bench.worklist.create("9.2", dataset("1.2.2"))
    bench.look(performer.FAULTS + 2)
    assert (bench.item("9.1").state, bench.reason()) == (CANCELED, "110501")
    assert bench.item("9.2").state == IN_PROGRESS and len(calls) == performer.FAULTS + 1
    assert "DOE" not in caplog.text and "DOE" not in json.dumps(bench.item().dataset)


def test_an_analysis_that_a_person_deleted_cancels_its_work_item(bench: Bench) -> None:
    bench.worklist.create("9.1", dataset())
    bench.look()
    bench.store.delete(bench.item().analysis or "")
    bench.look()
    assert bench.item().state == CANCELED and "deleted" in bench.progress("ReasonForCancellation")


def test_a_canceled_work_item_loses_its_analysis(bench: Bench) -> None:
    reason = code("110500", "DCM", "Doctor canceled procedure")
    bench.worklist.create("9.1", dataset())
    bench.look()
    identity = bench.run()
    bench.worklist.change("9.1", lambda item: [item.discontinued(reason)])
    bench.look(2)
    assert bench.analyses() == [] and (bench.item().state, bench.item().analysis, bench.reason()) == (
        CANCELED,
        None,
        "110500",
    )
    assert not bench.store.complete(identity, RESULT)


def test_a_cancellation_while_it_is_being_submitted_is_kept(bench: Bench) -> None:
    reason = code("110500", "DCM", "Doctor canceled procedure")

    def slow(instances: Sequence[Instance], request: Request) -> Work:
        bench.worklist.change("9.1", lambda item: [item.discontinued(reason)])
        return Work("sisc_lung", tuple(instances), request)

    bench.work = slow
    bench.worklist.create("9.1", dataset())
    bench.look(2)
    assert bench.item().state == CANCELED and bench.analyses() == []


def test_without_object_kinds_in_the_settings_there_is_a_report_all_the_same(bench: Bench) -> None:
    bench.settings = replace(bench.settings, objects=())
    bench.performer = bench.another()
    bench.worklist.create("9.1", dataset())
    bench.look()
    assert bench.queue.works[0].request.objects == ("SR",)


# -- reading the order ------------------------------------------------------------------------------------------------------


def requested(*parameters: dict[str, Any], **more: Any) -> Request:
    made = dataset(**{PARAMETERS: list(parameters), **more})
    order = orders.read(made, "PELLUCID", ("sisc_lung", "clear_dr"))
    assert order is not None
    return orders.requested(made, order)


def test_processing_parameters_are_the_request(bench: Bench) -> None:
    request = requested(
        parameter("OPERATING_POINT", "sensitivity_90"),
        parameter("LATERALITY", "R"),
        parameter("OBJECTS", "SR, SEG"),
        parameter("MAPS", "clear"),
        parameter("REGION", "1.5,-2,300"),
        parameter("REGION", "1.2.5:10,20.5"),
        {**parameter("MODEL", "ignored"), **attribute("ConceptNameCodeSequence", code("MODEL", "99OTHER", "not ours"))},
    )
    assert (request.model, request.operating_point, request.laterality) == ("sisc_lung", "sensitivity_90", "R")
    assert (request.objects, request.maps) == (("SR", "SEG"), ("clear",))
    assert [(r.center_mm, r.sop_instance_uid, r.center_px) for r in request.regions] == [
        ((1.5, -2.0, 300.0), None, None),
        (None, "1.2.5", (10.0, 20.5)),
    ]
    assert requested(parameter("MODEL", "clear_dr"), **{CODE: []}).model == "clear_dr"


@pytest.mark.parametrize(
    "wrong",
    [
        [parameter("REGION", "1,2")],
        [parameter("REGION", "nan,1,2")],
        [parameter("REGION", "1.2.5:x,y")],
        [parameter("REGION", "../../etc:1,2")],
        [parameter("LATERALITY", "BOTH")],
        [parameter("OBJECTS", "PDF")],
        [parameter("MODEL", "clear_dr")],  # the code says sisc_lung
        [parameter("LATERALITY", "R"), parameter("LATERALITY", "L")],
    ],
)
def test_parameters_that_make_no_sense_cancel_the_work_item(bench: Bench, wrong: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequest):
        requested(*wrong)
    bench.worklist.create("9.1", dataset(**{PARAMETERS: wrong}))
    bench.look()
    assert bench.item().state == CANCELED and bench.progress("ReasonForCancellation").startswith("request: ")


@pytest.mark.parametrize(
    ("more", "is_due"),
    [
        ({"ScheduledProcedureStepStartDateTime": "20260310115959+0000"}, True),
        ({"ScheduledProcedureStepStartDateTime": "20260310120001+0000"}, False),
        ({"ScheduledProcedureStepStartDateTime": "20260310135959+0200"}, True),
        ({"ScheduledProcedureStepStartDateTime": "20260310135959", "TimezoneOffsetFromUTC": "+0200"}, True),
        ({"ScheduledProcedureStepStartDateTime": "20260310140001", "TimezoneOffsetFromUTC": "+0200"}, False),
        ({"ScheduledProcedureStepStartDateTime": "20260311015959"}, True),  # has come somewhere, maybe at the sender's
        ({"ScheduledProcedureStepStartDateTime": "20260311020001"}, False),
        ({"ScheduledProcedureStepExpirationDateTime": "20260310115959+0000"}, False),
        ({"ScheduledProcedureStepExpirationDateTime": "20260310120001+0000"}, True),
        ({"InputReadinessState": "INCOMPLETE"}, False),
    ],
)
def test_a_step_begins_in_its_time(more: dict[str, Any], is_due: bool) -> None:
    assert orders.due(dataset(**more), datetime(2026, 3, 10, 12, tzinfo=UTC)) is is_due


# -- the whole service ------------------------------------------------------------------------------------------------------


class Client(FlaskClient):
    def open(self, *arguments: Any, **more: Any) -> Any:
        return super().open(*arguments, **{"buffered": True, **more})


@pytest.fixture
def served(tiny_models: Path, tmp_path: Path) -> Iterator[tuple[FlaskClient, Performer]]:
    settings = Settings(
        data_dir=tmp_path / "data", models_dir=tiny_models, threads=1, free_bytes=0, arrivals="store", dicom_processes=0
    )
    app = create_app(settings)
    app.test_client_class = Client
    service = app.extensions["pellucid"]
    yield app.test_client(), Performer(service.store, service.pipeline, service.queue, settings)
    service.close()


def stow(client: FlaskClient, files: list[Path]) -> None:
    parts = [b"--B0\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() + b"\r\n" for file in files]
    kind = 'multipart/related; type="application/dicom"; boundary=B0'
    response = client.post("/dicomweb/studies", data=b"".join(parts) + b"--B0--\r\n", content_type=kind)
    assert response.status_code == 200, response.text


def ordered(client: FlaskClient, uid: str, *uids: str, **more: Any) -> None:
    whole = {
        **dataset(),
        **attribute("InputInformationSequence", inputs(*uids, study="1.2.3", series="1.2.4")),
        **attribute("ProcedureStepLabel", "Lung nodule"),
        **attribute("ProcedureStepState", SCHEDULED),
        **attribute("PatientName"),
        **attribute("PatientID", "PATIENT-7"),
        **attribute("ScheduledProcedureStepStartDateTime", stamp(datetime.now(UTC) - timedelta(seconds=1))),
        **{key: entry for keyword, value in more.items() for key, entry in attribute(keyword, *value).items()},
    }
    response = client.post(f"/dicomweb/workitems?{uid}", json=[whole], content_type="application/dicom+json")
    assert response.status_code == 201, response.text


def shown(client: FlaskClient, uid: str) -> dict[str, Any]:
    (found,) = client.get(f"/dicomweb/workitems/{uid}").get_json()
    return dict(found)


def performed(client: FlaskClient, performer: Performer, uid: str, state: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while first(found := shown(client, uid), "ProcedureStepState") != state:
        assert time.monotonic() < end, found
        performer.look()
        time.sleep(0.05)
    return found


def test_images_and_a_work_item_come_in_and_results_can_be_retrieved(
    served: tuple[FlaskClient, Performer], write_series: Callable[..., list[Path]]
) -> None:
    client, worker = served
    files = write_series()
    uids = [f"1.2.4.{n}" for n in range(1, 9)]
    middle = parameter("REGION", "2.5,5,104.375")
    ordered(client, "2.25.1", *uids, **{PARAMETERS: [middle]})
    worker.look()
    assert first(shown(client, "2.25.1"), "ProcedureStepState") == SCHEDULED  # its images are not here yet
    stow(client, files)
    found = performed(client, worker, "2.25.1", COMPLETED)
    assert "00081195" not in found
    outputs = items(found, PERFORMED, "OutputInformationSequence")
    made = [uid for one in outputs for uid in items(one, "ReferencedSOPSequence", "ReferencedSOPInstanceUID")]
    assert len(made) >= 3 and items(found, PROGRESS, "ProcedureStepProgress") == [100]
    for one in outputs:
        url = first(one, "WADORSRetrievalSequence", "RetrieveURL")
        assert url.startswith("http://localhost/dicomweb/studies/1.2.3/series/")
        body = client.get(url.removeprefix("http://localhost")).data
        assert body.count(b"DICM") == len(items(one, "ReferencedSOPSequence"))
        listed = client.get(f"{url.removeprefix('http://localhost')}/instances").get_json()
        assert {first(entry, "SOPInstanceUID") for entry in listed} == set(
            items(one, "ReferencedSOPSequence", "ReferencedSOPInstanceUID")
        )
    (analysis,) = client.get("/api/v1/analyses").get_json()["analyses"]
    body = client.get(f"/api/v1/analyses/{analysis['id']}").get_json()
    assert {one["sop_instance_uid"] for one in body["objects"]} == set(made)
    assert [finding["id"] for finding in body["findings"]] == ["region-1"]
    late = client.post("/dicomweb/workitems/2.25.1/cancelrequest")
    assert late.status_code == 409 and "already COMPLETED" in late.headers["Warning"]


def test_a_running_work_item_is_canceled_on_request(
    served: tuple[FlaskClient, Performer], write_series: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, worker = served
    stow(client, write_series())
    pipeline = worker._pipeline
    begun, go_on = [], []
    run = pipeline.run

    def held(work: Work, report: Any = None) -> Any:
        begun.append(1)
        while not go_on:
            time.sleep(0.01)
        return run(work, report)

    monkeypatch.setattr(pipeline, "run", held)
    try:
        ordered(client, "2.25.2", *(f"1.2.4.{n}" for n in range(1, 9)))
        performed(client, worker, "2.25.2", IN_PROGRESS)
        until(lambda: begun)
        answer = client.post("/dicomweb/workitems/2.25.2/cancelrequest")
        assert answer.status_code == 202
        assert first(shown(client, "2.25.2"), "ProcedureStepState") == CANCELED
        worker.look()
    finally:
        go_on.append(1)
    until(lambda: not worker._queue._stages)  # the run has ended
    assert client.get("/api/v1/analyses").get_json()["analyses"] == []
    assert len(client.get("/dicomweb/studies/1.2.3/series").get_json()) == 1  # the images stay, results were not kept
