"""Large images are decoded one at a time, others side by side."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from service.errors import InputError
from service.intake.sandbox import LARGE_PIXELS, Sandbox
from service.records import Instance


@pytest.mark.parametrize(("pixels", "together"), [(LARGE_PIXELS + 1, 1), (LARGE_PIXELS, 2)])
def test_large_images_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, together: int
) -> None:
    at_work, most, both = set(), [0], threading.Barrier(2)

    def ask(*_: Any, **__: Any) -> NoReturn:
        at_work.add(threading.get_ident())
        with suppress(threading.BrokenBarrierError):
            both.wait(60 if together == 2 else 0.5)  # passes only when two are here at once
        most[0] = max(most[0], len(at_work))
        at_work.discard(threading.get_ident())
        raise InputError("not decoded")

    instance = Instance(tmp_path / "x", "0", "photograph", pixels, 1, "2.25.1")

    def decode(sandbox: Sandbox) -> None:
        with pytest.raises(InputError, match="not decoded"):
            sandbox.photograph(instance)

    with Sandbox(tmp_path) as sandbox, ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(sandbox._pool, "ask", ask)
        list(pool.map(decode, [sandbox, sandbox]))
    assert most == [together]
