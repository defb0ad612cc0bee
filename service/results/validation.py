"""A result object against the standard: dicom3tools' ``dciodvfy``, where it is installed, and which objects to try."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

VALIDATOR = "dciodvfy"
SECONDS = 60.0
MOST_MESSAGES = 20
_ERRORS, _WARNINGS = ("Error", "Abort"), ("Warning",)
_LINE = re.compile(r"(\w+ - (?:</[^<>]*> - )?)(.*?)((?:Module|Macro)=<\w+>)?", re.DOTALL)
"""Kind and element, what is wrong, and the module; only what is wrong may quote the object."""
_QUOTED = re.compile(r"""(?:<(?:.*>|.*)|'(?:.*'|.*)|"(?:.*"|.*))(?:\s*\(0x[0-9a-f]+\))?""", re.DOTALL)
"""From an opening quote to the last closing one: a value may hold quotes itself, or a line end."""
_REMOVED = "..."


def validate(data: bytes, seconds: float = SECONDS) -> dict[str, Any]:
    """Check one object with ``dciodvfy -new``.

    Parameters
    ----------
    data : bytes
        A whole Part 10 file.
    seconds : float
        After which the check is given up.

    Returns
    -------
    dict
        ``validator``: ``"dciodvfy"``, or None where it is not installed or did not come to an end (then ``errors`` and
        ``warnings`` are None and ``messages`` says why). ``errors`` and ``warnings``: how many lines it printed of each
        kind. ``messages``: the first error lines, in which every value of the object is replaced by "...".
    """
    tool = shutil.which(VALIDATOR)
    if tool is None:
        return _unknown(f"{VALIDATOR} is not installed: the object was not checked")
    with tempfile.TemporaryDirectory(prefix="pellucid-validate-") as folder:  # mode 0700
        path = Path(folder) / "object.dcm"
        path.write_bytes(data)
        try:
            done = subprocess.run(
                [tool, "-new", "object.dcm"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _unknown(f"{VALIDATOR} did not finish within {seconds:g} s: the object was not checked")
        except OSError:
            return _unknown(f"{VALIDATOR} could not be started: the object was not checked")
    lines = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace").splitlines()
    errors = [line for line in lines if line.startswith(_ERRORS)]
    if done.returncode < 0:  # ended by a signal
        errors.append(f"Error - {VALIDATOR} ended with signal {-done.returncode}")
    elif done.returncode > 0 and not errors:
        errors.append(f"Error - {VALIDATOR} ended with status {done.returncode}")
    return {
        "validator": VALIDATOR,
        "errors": len(errors),
        "warnings": sum(line.startswith(_WARNINGS) for line in lines),
        "messages": list(dict.fromkeys(without_values(line) for line in errors))[:MOST_MESSAGES],
    }


def chosen(sop_instance_uid: str, share: float) -> bool:
    """Whether this object is part of the sample that is checked; the same for the same object on every run.

    Parameters
    ----------
    sop_instance_uid : str
    share : float
        Of all objects, 0..1.
    """
    first = int.from_bytes(hashlib.sha256(sop_instance_uid.encode()).digest()[:8], "big")
    return first < share * 2**64


def without_values(line: str) -> str:
    """A line of the validator with names of elements and modules, but without what stands in the object."""
    parts = _LINE.fullmatch(line)
    start, text, module = parts.groups() if parts else ("", line, None)
    return f"{start}{_QUOTED.sub(_REMOVED, text)}{module or ''}"


def _unknown(why: str) -> dict[str, Any]:
    return {"validator": None, "errors": None, "warnings": None, "messages": [why]}
