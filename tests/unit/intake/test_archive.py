"""ZIP archives: what is taken out, what is left out, and what makes the whole archive refused."""

from __future__ import annotations

import io
import re
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InputError, TooLarge
from service.intake.limits import Limits
from service.intake.sandbox import Sandbox, is_archive

Build = Callable[..., bytes]


def test_members_become_files_with_generated_names(sandbox: Sandbox, put: Any, zip_of: Build) -> None:
    archive = put(zip_of({"CT/": b"", "CT/1.dcm": b"one", "./CT/ü.dcm": b"two", "CT/2.dcm": b"one"}))
    assert is_archive(archive)
    files = sandbox.expand(archive)
    assert [file.read_bytes() for file in files] == [b"one", b"two", b"one"]
    assert [file.name for file in files] == ["00001", "00002", "00003"]
    assert files[0].parent != sandbox.expand(archive)[0].parent


def test_left_out(sandbox: Sandbox, put: Any, zip_of: Build) -> None:
    names = ["__MACOSX/a.dcm", "a/._b.dcm", ".DS_Store", ".hidden/a.dcm", "DICOMDIR", "disc/dicomdir", "a/image"]
    files = sandbox.expand(put(zip_of({name: name.encode() for name in names})))
    assert [file.read_bytes() for file in files] == [b"a/image"]


def test_stored_members_and_a_large_black_slice(sandbox: Sandbox, put: Any, zip_of: Build) -> None:
    black = bytes(15 << 20)  # deflates a thousandfold, and is honest
    assert sandbox.expand(put(zip_of({"a": black})))[0].stat().st_size == len(black)
    assert sandbox.expand(put(zip_of({"a": b"plain"}, zipfile.ZIP_STORED)))[0].read_bytes() == b"plain"


def test_real_series(sandbox: Sandbox, data: Path) -> None:
    files = sandbox.expand(data / "dicom" / "ct_lungfcp_0001.zip")
    start = time.monotonic()
    instances = sandbox.inspect(files)
    assert time.monotonic() - start < 30
    assert len(instances) == len({instance.sop_instance_uid for instance in instances}) == 98


def encrypted(data: bytes) -> bytes:
    """Sets the encryption flag of the first member in the local header and in the directory."""
    changed = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[changed.index(magic) + offset] |= 1
    return bytes(changed)


def with_method(data: bytes, method: int) -> bytes:
    changed = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        changed[changed.index(magic) + offset] = method
    return bytes(changed)


def link() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        member = zipfile.ZipInfo("a")
        member.external_attr = 0o120777 << 16
        opened.writestr(member, "/etc/passwd")
    return stream.getvalue()


class TestRefused:
    @pytest.fixture
    def refused(self, sandbox: Sandbox, put: Callable[[bytes], Path]) -> Callable[[bytes, type[InputError], str], None]:
        def check(data: bytes, kind: type[InputError], text: str) -> None:
            folders, start = set(sandbox._spool.iterdir()), time.monotonic()
            with pytest.raises(InputError) as caught:
                sandbox.expand(put(data))
            assert type(caught.value) is kind, caught.value.detail
            assert re.search(text, caught.value.detail), caught.value.detail
            assert "Miller" not in caught.value.detail
            assert time.monotonic() - start < 30
            assert set(sandbox._spool.iterdir()) == folders, "what was written must be gone"

        return check

    @pytest.mark.parametrize(
        "name", ["../../evil.dcm", "a/../../b", "/etc/passwd", "C:\\Miller.dcm", "..\\Miller", "a\\..\\b"]
    )
    def test_path_that_leads_out(self, name: str, refused: Any, zip_of: Build) -> None:
        refused(zip_of({"fine.dcm": b"x", name: b"x"}), InputError, "member 2 of the ZIP has a path that leads out")

    def test_other_faults_of_a_member(self, refused: Any, zip_of: Build) -> None:
        one = zip_of({"Miller.dcm": bytes(500)})
        refused(encrypted(one), InputError, "member 1 of the ZIP is encrypted")
        refused(with_method(one, 14), InputError, "method 14")
        refused(link(), InputError, "is a link")
        refused(zip_of({"a.dcm": b"x", "Miller.dcm": one}), InputError, "member 2 of the ZIP is itself a ZIP")
        refused(zip_of({"Miller.dcm": zip_of({})}), InputError, "is itself a ZIP")

    def test_nothing_in_it(self, refused: Any, zip_of: Build) -> None:
        refused(zip_of({}), InputError, "holds no files")
        refused(zip_of({"folder/": b"", ".DS_Store": b"x"}), InputError, "holds no files")

    def test_broken(self, refused: Any, zip_of: Build) -> None:
        honest = zip_of({"a": np.random.default_rng(0).bytes(5000)})
        refused(b"PK\x03\x04" + bytes(40), InputError, "no end record")
        refused(honest[:-30], InputError, "no end record")
        refused(honest[:1000] + bytes(20) + honest[1020:], InputError, "damaged")
        refused(b"", InputError, "no end record")

    def test_bomb_of_one_member(self, refused: Any, zip_of: Build) -> None:
        refused(zip_of({"a.dcm": bytes(100_000_000)}), TooLarge, "inflates more than 200-fold")

    def test_bomb_of_many_members(self, refused: Any, zip_of: Build) -> None:
        refused(
            zip_of({f"{k}": bytes(15 << 20) for k in range(6)}),
            TooLarge,
            "member 5 of the ZIP inflates more than 200-fold",
        )

    def test_member_larger_than_its_header_says(self, refused: Any, zip_of: Build) -> None:
        data = zip_of({"a": b"ab" * 50_000})
        small = struct.pack("<L", 10)
        refused(data.replace(struct.pack("<L", 100_000), small), InputError, "damaged")

    def test_more_members_than_accepted(self, refused: Any, zip_of: Build) -> None:
        refused(zip_of({str(k): b"" for k in range(4097)}), TooLarge, "has 4097 members; at most 4096")

    def test_end_record_that_lies_about_the_members(self, refused: Any, zip_of: Build) -> None:
        data = zip_of({str(k): b"" for k in range(5000)})
        at = data.rindex(b"PK\x05\x06")
        refused(data[: at + 8] + struct.pack("<2H", 9, 9) + data[at + 12 :], TooLarge, "has 5000 members")

    def test_directory_too_large_to_be_read(self, refused: Any, zip_of: Build) -> None:
        data = zip_of({"a": b"x"})
        at = data.rindex(b"PK\x05\x06")
        refused(
            data[: at + 12] + struct.pack("<L", 1 << 30) + data[at + 16 :], TooLarge, "directory has 1073741824 bytes"
        )

    def test_zip64_end_record_with_billions_of_members(self, refused: Any, zip_of: Build) -> None:
        data = zip_of({"a": b"x"})
        at = data.rindex(b"PK\x05\x06")
        record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1 << 32, 1 << 32, 46 << 32, 0)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
        end = data[at : at + 8] + b"\xff" * 12 + data[at + 20 :]
        refused(data[:at] + record + locator + end, TooLarge, "has 4294967296 members")


def test_limits_on_bytes(tmp_path: Path, put: Any, zip_of: Build) -> None:
    random = np.random.default_rng(0)
    archive = put(zip_of({"a": random.bytes(60_000), "b": random.bytes(60_000)}))
    with (
        Sandbox(tmp_path / "one", Limits(expanded_bytes=100_000), workers=1) as one,
        pytest.raises(TooLarge, match=r"member 2 .* 40000 bytes that are left"),
    ):
        one.expand(archive)
    with (
        Sandbox(tmp_path / "two", Limits(file_bytes=50_000), workers=1) as two,
        pytest.raises(TooLarge, match="at most 50000"),
    ):
        two.expand(archive)
