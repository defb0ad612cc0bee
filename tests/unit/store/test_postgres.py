"""Two hosts on one PostgreSQL, and troubles of either database that are to be waited out."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy

from service.errors import Busy, Conflict, NoSpace, NotFound
from service.records import Arrival, Instance, ResultObject
from service.store import database as db
from service.store import deliveries as table
from service.store import trouble
from service.store.analyses import Store
from tests import postgres

Make = Callable[..., Instance]


@pytest.fixture
def hosts(tmp_path: Path, cluster: postgres.Postgres) -> Iterator[tuple[Store, Store]]:
    """Two hosts, each with a folder of its own, that share a database and a folder of contents."""
    url, shared = cluster.create(), tmp_path / "shared"
    opened = [Store(tmp_path / name, 0, url, shared) for name in ("a", "b")]
    yield opened[0], opened[1]
    for store in opened:
        store.close()


def at_once(*actions: Callable[[], object]) -> list[object]:
    """What each gives or raises, started at the same moment."""
    gate, results = threading.Barrier(len(actions)), [object()] * len(actions)

    def run(number: int) -> None:
        gate.wait()
        try:
            results[number] = actions[number]()
        except Exception as error:  # noqa: BLE001 - it is looked at by the test
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_hosts_that_start_at_the_same_time_make_one_schema(tmp_path: Path, cluster: postgres.Postgres) -> None:
    url = cluster.create()
    opened = at_once(*(lambda n=n: Store(tmp_path / f"{n}", 0, url, tmp_path / "shared") for n in range(4)))  # type: ignore[misc]
    assert [type(one) for one in opened] == [Store] * 4, opened
    for one in opened:
        assert isinstance(one, Store)
        one.close()


def test_of_two_hosts_with_one_key_one_wins_and_the_images_stay(hosts: tuple[Store, Store], make: Make) -> None:
    image = make(b"image")
    for number in range(10):
        accepted = at_once(
            *(lambda s=s, n=number: s.accept(model="m", instances=[image], request={}, key=f"{n}") for s in hosts)  # type: ignore[misc]
        )
        assert sorted(type(one).__name__ for one in accepted) == ["Conflict", "str"], accepted
        assert any(isinstance(one, Conflict) for one in accepted)
    assert hosts[0].counts() == {"queued": 10}
    assert hosts[1].blobs.path(image.sha256).exists()


def test_the_same_instance_through_two_hosts_is_filed_once(
    hosts: tuple[Store, Store], make: Make, tmp_path: Path
) -> None:
    for number in range(5):
        arrivals = []
        for name in ("a", "b"):
            instance = replace(
                make(f"{number}".encode(), f"1.2.{number}"), sop_class_uid="1.2", transfer_syntax_uid="1.2"
            )
            copy = tmp_path / f"{name}{number}.dcm"
            copy.write_bytes(instance.path.read_bytes())
            arrivals.append(Arrival(replace(instance, path=copy), "dimse", "CT1", name, "2026-01-15T10:00:00.000000Z"))
        filed = at_once(*(lambda s=s, a=a: s.archive.add([a]) for s, a in zip(hosts, arrivals, strict=True)))  # type: ignore[misc]
        assert all(isinstance(one, list) and one[0].outcome in ("stored", "repeated") for one in filed), filed
    assert len(hosts[0].archive.study_instances("1.1")) == 5


def test_one_analysis_that_two_hosts_ran_ends_once(hosts: tuple[Store, Store], make: Make) -> None:
    """A host that was taken for dead and was not: what both found is the same, and is stored and sent once."""
    first, second = hosts
    identity = first.accept(model="m", instances=[make(b"x")], request={})
    one, two = first.begin(identity), second.begin(identity)
    assert one is not None and two is not None and two.attempts == 2

    def end(store: Store) -> bool:
        return store.complete(identity, {"by": "one"}, (), [table.row(identity, "pacs", "SR", "1.1")])

    assert sorted(map(bool, at_once(lambda: end(first), lambda: end(second)))) == [False, True]
    assert len(first.deliveries.of_analysis(identity)) == 1
    assert first.begin(identity) is None and not second.requeue(identity)


def test_the_second_of_two_completions_takes_no_object_away(
    hosts: tuple[Store, Store], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = hosts[0].accept(model="m", instances=[make(b"x")], request={})
    hosts[0].begin(identity)
    report = ResultObject("SR", "1.9", "1.2.9", "1.8", b"report")
    described = replace(make(b"report", "1.2.9"), sop_class_uid="1.9", transfer_syntax_uid="1.2")
    monkeypatch.setattr("service.store.archive.objects.describe", lambda made: described)
    assert hosts[0].complete(identity, {}, (report,))
    assert not hosts[1].complete(identity, {}, (report,))
    assert hosts[1].archive.by_uid("1.2.9").path.read_bytes() == b"report"


def test_a_host_is_seen_until_somebody_forgets_its_last_sign(hosts: tuple[Store, Store]) -> None:
    one, other = (store.hosts for store in hosts)
    one.beat("a")
    seen = other.seen()
    assert list(seen) == ["a"]
    one.beat("a")
    other.forget("a", seen["a"])
    assert list(other.seen()) == ["a"], "it gave a sign meanwhile"
    other.forget("a", other.seen()["a"])
    assert one.seen() == {}


def test_what_a_header_may_hold_fits_every_column(store: Store, make: Make) -> None:
    long = replace(make(b"x", patient="P" * 256), modality="M" * 256)
    identity = store.accept(model="m", instances=[long], request={})
    assert (store.get(identity).modality, store.get(identity).patient) == ("M" * 16, "P" * 256)


def test_what_was_refused_is_kept_and_seen(store: Store, make: Make) -> None:
    arrival = Arrival(make(b"other"), "dimse", "CT1", "abc.1", "2026-01-15T10:00:00.000000Z")
    store.reject(arrival, "why")
    store.reject(
        replace(arrival, instance=replace(arrival.instance, path=store.blobs.path(arrival.instance.sha256))), "why"
    )
    (kept,) = store.rejected()
    assert (kept["sha256"], kept["sender"], kept["reason"]) == (arrival.instance.sha256, "CT1", "why")
    store.sweep()
    assert store.blobs.path(arrival.instance.sha256).read_bytes() == b"other"
    assert store.purge("2026-01-16") == 0, "it counts what was used"
    assert store.rejected() == [] and not store.blobs.path(arrival.instance.sha256).exists()


# -- troubles -----------------------------------------------------------------------------------------------------------


def of_sqlite(action: Callable[[sqlalchemy.Connection], object], path: Path, **connect: object) -> BaseException:
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args=connect)
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError) as caught, engine.connect() as connection:
        action(connection)
    engine.dispose()
    return caught.value


def test_a_locked_sqlite_passes_and_a_wrong_statement_does_not(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "x", isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN IMMEDIATE")
    insert = sqlalchemy.text("INSERT INTO t VALUES (1)")
    assert trouble.passes(of_sqlite(lambda c: c.execute(insert), tmp_path / "x", timeout=0))
    holder.execute("ROLLBACK")
    holder.close()
    assert not trouble.passes(of_sqlite(lambda c: c.execute(sqlalchemy.text("SELECT * FROM u")), tmp_path / "x"))
    assert trouble.passes(of_sqlite(lambda c: c.execute(insert), tmp_path / "no" / "folder"))


def test_a_full_sqlite_passes(tmp_path: Path) -> None:
    def fill(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 3")
        connection.exec_driver_sql("CREATE TABLE t (x)")
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(100000))")

    assert trouble.passes(of_sqlite(fill, tmp_path / "x"))


def test_a_stopped_postgresql_passes_and_a_wrong_value_does_not(tmp_path: Path) -> None:
    with postgres.running() as own:
        engine = db.open_database(own.create())
        with engine.connect() as held:
            with pytest.raises(sqlalchemy.exc.DataError) as wrong, engine.begin() as connection:
                connection.execute(sqlalchemy.insert(db.hosts).values(id="x" * 65, seen=""))
            assert not trouble.passes(wrong.value)
            own.stop()
            with pytest.raises(sqlalchemy.exc.DBAPIError) as broken:
                held.execute(sqlalchemy.select(db.hosts))
            assert trouble.passes(broken.value)
        with pytest.raises(sqlalchemy.exc.DBAPIError) as refused:
            engine.connect()
        assert trouble.passes(refused.value)
        own.start()
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.select(db.hosts)).all() == []
        engine.dispose()


def test_a_full_disk_and_a_full_house_pass_and_faults_do_not() -> None:
    assert trouble.passes(OSError(errno.ENOSPC, "")) and trouble.passes(NoSpace("")) and trouble.passes(Busy(""))
    assert not any(map(trouble.passes, (OSError(errno.EACCES, ""), NotFound(""), ValueError(), KeyError())))


def test_waiting_ends_when_the_trouble_does_or_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "FIRST_PAUSE_S", 0.001)
    left = [OSError(errno.ENOSPC, ""), Busy("")]

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    assert trouble.wait_out(action, lambda: False) == "done"
    left[:] = [ValueError("no")]
    with pytest.raises(ValueError, match="no"):
        trouble.wait_out(action, lambda: False)
    left[:] = [Busy("")]
    with pytest.raises(Busy):
        trouble.wait_out(action, lambda: True)
