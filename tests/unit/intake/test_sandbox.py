"""The pool of children: isolation, hangs, crashes, lies."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import errors, uids
from service.intake import answers
from service.intake.child import ENVIRONMENT
from service.intake.limits import Limits
from service.intake.sandbox import Sandbox
from tests.waiting import until

Build = Callable[..., bytes]


def child_of(sandbox: Sandbox) -> int:
    """Process id of the one child of a sandbox with one worker, started."""
    with sandbox._pool.child() as child:
        return child.pid


def await_state(child: int, letter: str) -> None:
    """Wait until a process is stopped (T) or dead (Z), see proc(5)."""
    until(lambda: Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == letter)


def crash_when_asked(child: int) -> None:
    """Let a stopped child crash once a request lies in its standard input."""
    with Path(f"/proc/{child}/fd/0").open("rb", buffering=0) as asked:
        until(lambda: struct.unpack("i", fcntl.ioctl(asked, termios.FIONREAD, bytes(4)))[0])
    os.kill(child, signal.SIGSEGV)
    os.kill(child, signal.SIGCONT)


class TestChild:
    def test_inherits_nothing_and_is_limited(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PELLUCID_TOKENS", "secret")
        with (tmp_path / "secret").open("w") as secret, Sandbox(tmp_path / "spool", Limits(), workers=1) as sandbox:
            os.set_inheritable(secret.fileno(), True)
            process = Path(f"/proc/{child_of(sandbox)}")
            environment = (process / "environ").read_bytes().split(b"\0")
            names = {entry.split(b"=")[0] for entry in environment if entry}
            assert names == {name.encode() for name in ENVIRONMENT}
            targets = {link.readlink().as_posix() for link in (process / "fd").iterdir()}
            assert all(target.startswith("pipe:") or target == "/dev/null" for target in targets)
            limits = {line[:26].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()}
            assert limits["Max core file size"] == "0"
            assert limits["Max data size"] == str(Limits().child_memory_bytes)
            assert int(limits["Max address space"]) < 800 << 20
            assert limits["Max file size"] == str(Limits().file_bytes)
            assert "Threads:\t1\n" in (process / "status").read_text()

    def test_hang_ends_in_an_error_and_a_new_child(self, tmp_path: Path, put: Any, make_dicom: Build) -> None:
        with Sandbox(tmp_path / "spool", Limits(seconds=0.5), workers=1) as sandbox:
            before = child_of(sandbox)
            os.kill(before, signal.SIGSTOP)
            await_state(before, "T")
            start = time.monotonic()
            with pytest.raises(errors.InputError, match=r"file 1 of 1: it took longer than 0\.5 s"):
                sandbox.inspect([put(make_dicom())])
            assert time.monotonic() - start < 30
            assert child_of(sandbox) != before

    def test_crash_names_instance_and_transfer_syntax(self, tmp_path: Path, put: Any, make_dicom: Build) -> None:
        with Sandbox(tmp_path / "spool", workers=1) as sandbox:
            [instance] = sandbox.inspect([put(make_dicom())])
            child = child_of(sandbox)
            os.kill(child, signal.SIGSTOP)
            await_state(child, "T")
            timer = threading.Thread(target=lambda: crash_when_asked(child))
            timer.start()
            with pytest.raises(
                errors.InputError, match=r"instance 2\.25\.1 in transfer syntax 1\.2\.840\.10008\.1\.2\.1: .*crashed"
            ):
                sandbox.hounsfield(instance)
            timer.join()
            assert sandbox.hounsfield(instance).shape == (6, 8)

    def test_child_that_died_while_idle_is_replaced_unseen(self, tmp_path: Path, put: Any, make_dicom: Build) -> None:
        with Sandbox(tmp_path / "spool", workers=1) as sandbox:
            child = child_of(sandbox)
            os.kill(child, signal.SIGKILL)
            await_state(child, "Z")
            assert len(sandbox.inspect([put(make_dicom())])) == 1

    def test_memory_limit_is_too_large_and_not_the_end(self, tmp_path: Path, put: Any, make_dicom: Build) -> None:
        large = np.zeros((4000, 4000), np.int16)
        with Sandbox(tmp_path / "spool", Limits(child_memory_bytes=128 << 20), workers=1) as sandbox:
            instance, small = sandbox.inspect([put(make_dicom(large)), put(make_dicom())])
            before = child_of(sandbox)
            with pytest.raises(errors.TooLarge, match="more memory"):
                sandbox.hounsfield(instance)
            assert sandbox.hounsfield(small).shape == (6, 8)
            assert child_of(sandbox) == before

    def test_many_threads_share_few_children(self, tmp_path: Path, put: Any, make_dicom: Build) -> None:
        paths = [put(make_dicom(SOPInstanceUID=f"2.25.{number}")) for number in range(40)]
        with Sandbox(tmp_path / "spool", workers=2) as sandbox, ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda path: sandbox.inspect([path])[0], paths))
        assert [instance.sop_instance_uid for instance in found] == [f"2.25.{number}" for number in range(40)]
        assert [instance.path for instance in found] == paths

    def test_close_ends_the_children(self, tmp_path: Path, put: Any) -> None:
        sandbox = Sandbox(tmp_path / "spool", workers=1)
        child = child_of(sandbox)
        sandbox.close()
        assert not Path(f"/proc/{child}").exists()
        with pytest.raises(RuntimeError, match="closed"):
            sandbox.inspect([put(b"")])


HONEST: dict[str, Any] = {
    "media": "photograph",
    "rows": 10,
    "columns": 20,
    "frames": 1,
    "samples": 3,
    "bits": 8,
    "photometric": "RGB",
}


class TestAnswersAreNotTrusted:
    def test_honest_answer(self) -> None:
        found = answers.instance(HONEST, Path("x"), "ab" * 32, Limits())
        assert (found.rows, found.columns, found.sop_instance_uid) == (10, 20, uids.of("photograph", "ab" * 32))

    @pytest.mark.parametrize(
        "lie",
        [
            {"rows": -1},
            {"rows": "10"},
            {"rows": True},
            {"rows": 1.5},
            {"columns": 1 << 40},
            {"media": "executable"},
            {"photometric": 7},
            {"photometric": "A" * 300},
            {"photometric": "RGB\x1b[2J"},
            {"frames": None},
        ],
    )
    def test_lies(self, lie: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError)):
            answers.instance({**HONEST, **lie}, Path("x"), "", Limits())

    @pytest.mark.parametrize(
        "lie",
        [
            {"sop_instance_uid": "../../etc"},
            {"sop_instance_uid": ""},
            {"series_uid": "1" * 65},
            {"position": [0, 0]},
            {"position": [0, 0, float("nan")]},
            {"orientation": "abcdef"},
            {"slice_thickness": float("inf")},
            {"instance_number": 1 << 40},
        ],
    )
    def test_lies_about_dicom(self, lie: dict[str, Any], sandbox: Sandbox, put: Any, make_dicom: Build) -> None:
        header, _ = sandbox._pool.ask({"op": "inspect", "path": str(put(make_dicom()))}, "")
        assert answers.instance(header, Path("x"), "", Limits()).sop_instance_uid == "2.25.1"
        with pytest.raises((ValueError, TypeError)):
            answers.instance({**header, **lie}, Path("x"), "", Limits())

    @pytest.mark.parametrize(
        ("header", "size"),
        [
            ({"dtype": "<f4", "shape": [2, 3]}, 23),
            ({"dtype": "|O", "shape": [2, 3]}, 24),
            ({"dtype": "<f4", "shape": [3, 2]}, 24),
            ({"dtype": "<f4", "shape": [2, 3, 1]}, 24),
            ({"dtype": "<f4", "shape": [-2, -3]}, 24),
            ({"dtype": "<f8", "shape": [2, 3]}, 48),
        ],
    )
    def test_lies_about_pixels(self, header: dict[str, Any], size: int) -> None:
        with pytest.raises((ValueError, TypeError)):
            answers.array(header, bytearray(size), "<f4", (2, 3))

    def test_larger_photograph_than_asked_for(self) -> None:
        answers.array({"dtype": "|u1", "shape": [4, 5, 3]}, bytearray(60), "|u1", None, 5)
        with pytest.raises(ValueError, match="array"):
            answers.array({"dtype": "|u1", "shape": [4, 5, 3]}, bytearray(60), "|u1", None, 4)
