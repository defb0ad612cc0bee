"""A store in a temporary folder, on SQLite and on PostgreSQL, and instances to put into it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.records import Instance
from service.store.analyses import Store
from tests import postgres

MakeInstance = Callable[..., Instance]


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Postgres]:
    with postgres.running() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The setting `database`."""
    if request.param == "sqlite":
        return ""
    cluster: postgres.Postgres = request.getfixturevalue("cluster")
    return cluster.create()


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[Store]:
    opened = Store(tmp_path / "data", free_bytes=0, database=database)
    yield opened
    opened.close()


@pytest.fixture
def make(tmp_path: Path) -> MakeInstance:
    """Write a file with some content and describe it."""

    def instance(content: bytes, uid: str = "1.2.3", patient: str = "P1", study: str = "1.1") -> Instance:
        sha256 = hashlib.sha256(content).hexdigest()
        path = tmp_path / sha256[:12]
        path.write_bytes(content)
        return Instance(
            path, sha256, "dicom", 512, 512, uid, series_uid="1.5", study_uid=study, modality="CT", patient_id=patient,
            pixel_spacing=(0.7, 0.7), orientation=(1, 0, 0, 0, 1, 0), position=(1.0, 2.0, 3.0),
            image_type=("ORIGINAL", "PRIMARY"),
        )  # fmt: skip

    return instance
