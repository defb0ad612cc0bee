"""Analyses in the store: nothing is accepted before it is on the disk, nothing is lost, nothing is left behind."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy

from service.errors import Conflict, NoSpace, NotFound
from service.records import Arrival, Instance
from service.store import deliveries
from service.store.analyses import Store, StoreError
from service.store.database import DatabaseError

Make = Callable[..., Instance]
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def accept(store: Store, *instances: Instance, model: str = "m", key: str | None = None, fingerprint: str = "") -> str:
    return store.accept(
        model=model, instances=instances, request={"a": 1}, warnings=["w"], key=key, fingerprint=fingerprint
    )


def test_an_accepted_analysis_is_read_back_with_its_instances_in_order(store: Store, make: Make) -> None:
    sent = [make(b"two", "1.2"), make(b"one", "1.1"), make(b"three", "1.3")]
    found = store.get(accept(store, *sent))
    assert (found.status, found.attempts, found.model, found.study, found.patient) == ("queued", 0, "m", "1.1", "P1")
    assert (found.request, found.warnings, found.result, found.error) == ({"a": 1}, ["w"], None, None)
    instances = store.instances(found.id)
    assert [replace(i, path=s.path) for i, s in zip(instances, sent, strict=True)] == sent
    assert [i.path.read_bytes() for i in instances] == [b"two", b"one", b"three"]


def test_it_survives_a_restart(tmp_path: Path, store: Store, database: str, make: Make) -> None:
    identity = accept(store, make(b"x"))
    store.close()
    again = Store(tmp_path / "data", free_bytes=0, database=database)
    try:
        assert again.get(identity).status == "queued"
    finally:
        again.close()


def test_what_waits_is_listed_in_order_and_beginning_counts_attempts(store: Store, make: Make) -> None:
    first, second = accept(store, make(b"1")), accept(store, make(b"2"))
    assert store.queued() == [(first, 0, "http"), (second, 0, "http")]
    one = store.begin(first)
    assert one is not None and (one.id, one.status, one.attempts) == (first, "running", 1)
    assert [row[0] for row in store.queued()] == [second]
    again = store.begin(first)  # its worker died and the engine takes it up again
    assert again is not None and again.attempts == 2
    store.requeue(first, counted=False)
    assert (store.get(first).status, store.get(first).attempts) == ("queued", 1)
    store.count_attempt(first, 1)
    store.count_attempt(first, 1)  # what somebody saw earlier counts once
    assert store.get(first).attempts == 2
    store.begin(first), store.complete(first, {})
    assert store.begin(first) is None and store.begin("0" * 32) is None


def test_ends_are_stored_once(store: Store, make: Make) -> None:
    identity = accept(store, make(b"1"))
    store.begin(identity)
    assert store.complete(identity, {"outcome": "negative"})
    assert not store.fail(identity, {"status": 500})
    found = store.get(identity)
    assert (found.status, found.result, found.error, found.ended) == ("completed", {"outcome": "negative"}, None, True)


def test_pages_are_newest_first_and_complete(store: Store, make: Make) -> None:
    ids = [accept(store, make(bytes([n]))) for n in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        rows, cursor = store.page({}, cursor=cursor, limit=2)
        seen += [row.id for row in rows]
        if cursor is None:
            break
    assert seen == ids[::-1]
    with pytest.raises(ValueError, match=".*"):
        store.page({}, cursor="%%%")


def test_filters(store: Store, make: Make) -> None:
    a = accept(store, make(b"1", patient="A", study="1.7"), model="m1")
    b = accept(store, make(b"2", patient="B", study="1.8"), model="m2")
    store.begin(a)

    def ids(since: str | None = None, **filters: str) -> list[str]:
        return [row.id for row in store.page(filters, since)[0]]

    assert ids(patient="A") == ids(study="1.7") == ids(model="m1") == ids(status="running") == [a]
    assert ids(status="queued") == ids(since=store.get(b).created) == [b]
    assert ids(patient="A", model="m2") == []


def test_an_idempotency_key_belongs_to_one_analysis(store: Store, make: Make) -> None:
    identity = accept(store, make(b"1"), key="k", fingerprint="f")
    assert store.by_key("k") == ("f", identity)
    assert store.by_key("other") is None
    with pytest.raises(Conflict):
        accept(store, make(b"2"), key="k", fingerprint="g")
    assert [row.id for row in store.page({})[0]] == [identity]
    assert len([f for f in store.blobs.root.rglob("*") if f.is_file()]) == 1  # the refused one's image is gone
    store.delete(identity)
    assert store.by_key("k") is None


def test_deletion_keeps_what_others_use(store: Store, make: Make) -> None:
    shared, own = make(b"shared", "1.1"), make(b"own", "1.2")
    one, two = accept(store, shared, own), accept(store, shared)
    store.maps_path(one, "f", create=True).write_bytes(b"maps")
    store.assessments.add(one, "f", "accepted")
    store.delete(one)
    assert not store.maps_path(one, "f").exists()
    assert store.blobs.path(shared.sha256).exists()
    assert not store.blobs.path(own.sha256).exists()
    with pytest.raises(NotFound):
        store.get(one)
    with pytest.raises(NotFound):
        store.delete(one)
    assert store.assessments.of_analysis(one) == []
    store.delete(two)
    assert not store.blobs.path(shared.sha256).exists()


def test_completing_a_deleted_analysis_says_so(store: Store, make: Make) -> None:
    identity = accept(store, make(b"1"))
    store.begin(identity)
    store.delete(identity)
    assert not store.complete(identity, {})


def test_no_space_is_said_before_anything_is_stored(tmp_path: Path, make: Make) -> None:
    full = Store(tmp_path / "full", free_bytes=1 << 60)
    try:
        with pytest.raises(NoSpace, match="reserve"):
            accept(full, make(b"x"))
        assert full.counts() == {}
    finally:
        full.close()


def test_a_disk_that_runs_full_leaves_nothing(store: Store, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = store.blobs.put, []

    def second_fails(source: Path, sha256: str) -> Path:
        calls.append(sha256)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return put(source, sha256)

    monkeypatch.setattr(store.blobs, "put", second_fails)
    with pytest.raises(NoSpace):
        accept(store, make(b"1", "1.1"), make(b"2", "1.2"))
    assert store.counts() == {}
    assert not [f for f in store.blobs.root.rglob("*") if f.is_file()]


@on_sqlite
def test_a_sweep_removes_what_a_crash_left(store: Store, make: Make) -> None:
    instance = make(b"kept")
    identity = accept(store, instance)
    store.maps_path(identity, "f", create=True).write_bytes(b"maps")
    orphan = make(b"orphan", "1.9")
    store.blobs.put(orphan.path, orphan.sha256)
    store.maps_path("0" * 32, "f", create=True).write_bytes(b"maps")
    store.sweep()
    assert store.blobs.path(instance.sha256).exists() and store.maps_path(identity, "f").exists()
    assert not store.blobs.path(orphan.sha256).exists() and not store.maps_path("0" * 32, "f").parent.exists()


@on_sqlite
def test_a_sweep_leaves_what_is_newer_alone(store: Store, make: Make) -> None:
    """It is on its way: its row comes next."""
    orphan = make(b"orphan")
    began = time.time()
    store.blobs.put(orphan.path, orphan.sha256)
    store.sweep(began - 1)
    assert store.blobs.path(orphan.sha256).exists()
    store.sweep(began + 60)
    assert not store.blobs.path(orphan.sha256).exists()


def test_an_instance_is_found_by_its_uids(store: Store, make: Make) -> None:
    accept(store, make(b"x", "1.2.3"))
    assert store.instance("1.1", "1.5", "1.2.3").path.read_bytes() == b"x"
    with pytest.raises(NotFound):
        store.instance("1.1", "1.5", "1.2.4")


def test_a_folder_has_one_owner(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StoreError, match="another running service"):
        Store(tmp_path / "data", free_bytes=0)


def test_a_foreign_schema_is_refused(tmp_path: Path, store: Store, database: str) -> None:
    with store._engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE schema_version SET version = 99"))
    store.close()
    with pytest.raises(DatabaseError, match="99"):
        Store(tmp_path / "data", free_bytes=0, database=database)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "pellucid.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(DatabaseError, match="cannot be opened"):
        Store(folder, free_bytes=0)


@on_sqlite
def test_every_connection_is_durable_and_checks_foreign_keys(store: Store) -> None:
    with store._engine.connect() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert values == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 10_000}


def test_the_size_of_what_is_to_be_stored_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(store.blobs, "_free_bytes", 400)
    assert store.blobs.check_space(600) == 1000
    with pytest.raises(NoSpace):
        store.blobs.check_space(601)


def test_a_purge_takes_what_is_settled_and_leaves_the_rest(store: Store, make: Make) -> None:
    def received(content: bytes, uid: str, series: str) -> Instance:
        instance = replace(make(content, uid), series_uid=series)
        (filed,) = store.archive.add([Arrival(instance, "dimse", "PACS", "a", "2026-01-01T00:00:00.000000Z")])
        return filed.instance

    settled, waiting, loose = (
        received(b"1", "1.1", "1.10"),
        received(b"2", "1.2", "1.20"),
        received(b"3", "1.3", "1.30"),
    )
    moving = received(b"4", "1.4", "1.40")
    store.series.touch([("1.40", "1.1", "CT")])
    one = store.accept(model="m", instances=[settled], request={}, door="dicom")
    two = store.accept(model="m", instances=[waiting], request={}, door="dicom")
    for identity, state in ((one, "committed"), (two, "dead")):
        store.begin(identity)
        store.complete(
            identity, {}, deliveries=[{**deliveries.row(identity, "pacs", "SR", f"{identity}.1"), "state": state}]
        )
    assert store.purge("2026-01-02T00:00:00.000000Z") == 1, "only the image that no analysis ever used"
    assert not loose.path.exists()
    assert store.purge("9999") == 2, "the analysis whose result is committed, and its image"
    assert not settled.path.exists() and waiting.path.exists() and moving.path.exists()
    assert [row.id for row in store.page({})[0]] == [two]
    with pytest.raises(NotFound):
        store.archive.by_uid("1.1")
    assert store.archive.by_uid("1.2").sha256 == waiting.sha256
