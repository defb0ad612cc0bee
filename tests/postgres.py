"""A PostgreSQL of the test's own: a throw-away cluster on a free port, which the test may stop and start."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from tests.orthanc import free_port

USER = "postgres"
PASSWORD = "for-tests-only"
"""There is one, so that the tests see whether it stays out of logs."""
START_S = 120


class Postgres:
    """One cluster."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self.port = free_port()
        self.log = folder / "postgresql.log"
        self._numbers = itertools.count()

    def url(self, database: str = "postgres") -> str:
        """Address of a database, as the setting `database` takes it."""
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection in autocommit."""
        return psycopg.connect(self.url(database).replace("+psycopg", ""), autocommit=True)

    def create(self) -> str:
        """Make an empty database; its address."""
        name = f"test_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.run("pg_ctl", "start", "-w", "-t", str(START_S), "-D", str(self._data), "-l", str(self.log))

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Break all connections and stop: in order, or as a crash does."""
        self.run("pg_ctl", "stop", "-w", "-t", str(START_S), "-D", str(self._data), "-m", mode)

    def make(self) -> None:
        """Make the cluster's folder."""
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self._folder, secret):
                shutil.chown(path, USER)
        self.run("initdb", "-D", str(self._data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "fsync = off\nfull_page_writes = off\nmax_connections = 200\n"  # no test cuts the power
            )

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return (self._data / "postmaster.pid").exists()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, which refuse to run as root."""
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            text=True, check=False, cwd="/", env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
        )  # fmt: skip
        assert done.returncode == 0, (program, done.stderr[-2000:])


def programs() -> Path | None:
    """Folder of this computer's initdb, pg_ctl and postgres, the newest where there are several."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def running() -> Iterator[Postgres]:
    """Start a cluster, stop and delete it in the end. The test skips, and says so, where PostgreSQL is not installed.

    It lies in a temporary folder of its own: pytest's are closed to the user who runs the database.
    """
    found = programs()
    if found is None:
        pytest.skip("NO POSTGRESQL: apt-get install postgresql; THIS TEST DID NOT RUN")
    with tempfile.TemporaryDirectory(prefix="pellucid-postgres-") as folder:
        cluster = Postgres(found, Path(folder))
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            if cluster.up:
                cluster.stop("immediate")
