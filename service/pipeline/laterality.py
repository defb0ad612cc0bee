"""Which eye a photograph of the retina shows: by the request, the image's header, the name of the file, or the optic disc.

What somebody stated is followed in this order. The disc is followed only where nobody stated anything and it tells well enough
(`tells`); where it then contradicts what was stated, that is said: the eyes may be swapped, or the photograph mirrored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from service.intake.disc import Disc
from service.records import Check, Instance, Request

Source = Literal["request", "header", "file_name", "disc"]
SIDES = {"R": "right", "L": "left"}
LEAST_CONFIDENCE, LEAST_ASIDE = 0.95, 0.25
"""From which on the optic disc is followed: probability of the likelier eye, and distance of the disc from the upright line
through the centre of the field, in its radii. How often it is right then: ``docs/results/retina_laterality.md``."""
_WORDS = {
    "R": {"right", "righteye", "od", "dexter", "rechts", "rechtes", "rechte"},
    "L": {"left", "lefteye", "os", "sinister", "links", "linkes", "linke"},
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LAST_LETTER = re.compile(r"(?:^|[^A-Za-z0-9])([RL])$")
_WHO = {"request": "the request", "header": "the image's header", "file_name": "the file's name"}


@dataclass(frozen=True)
class Eye:
    """Which eye it is, who says so, and what is to be said about it.

    Attributes
    ----------
    side : str
        R or L; empty where it is not known.
    source : str or None
        None where it is not known.
    confidence : float or None
        Probability, where the disc decided; None where somebody stated it.
    checks : tuple of Check
        ``laterality`` (warn): a contradiction; ``laterality_stated`` (warn): nobody stated it.
    """

    side: str = ""
    source: Source | None = None
    confidence: float | None = None
    checks: tuple[Check, ...] = ()


def named(names: Iterable[str]) -> str | None:
    """R or L where the names of the files tell one eye, and one only; the names are not kept.

    Whole words count, as in ``10_left.jpeg``, ``A-OS.png``, ``RightEye.tif`` and ``1_rechts.jpg``; a single capital letter counts
    at the end: ``7_L.jpg``.
    """
    told = {side for name in names for side in _told(PurePath(name.replace("\\", "/")).stem)}
    return told.pop() if len(told) == 1 else None


def _told(stem: str) -> set[str]:
    words = {word.lower() for word in _WORD.findall(stem)}
    return {side for side in SIDES if words & _WORDS[side]} | set(_LAST_LETTER.findall(stem))


def likelier(disc: Disc) -> tuple[str, float]:
    """The likelier eye by the disc, and its probability to three digits."""
    return ("R" if disc.right >= 0.5 else "L"), round(max(disc.right, 1 - disc.right), 3)


def tells(disc: Disc) -> bool:
    """Whether the disc is followed: it lies beside the middle, and makes one eye probable enough."""
    return abs(disc.x) >= LEAST_ASIDE and likelier(disc)[1] >= LEAST_CONFIDENCE


def decide(request: Request, instance: Instance, disc: Disc | None) -> Eye:
    """Follow the first that says R or L; say where others contradict, and what to do where nobody stated it.

    Parameters
    ----------
    request : Request
    instance : Instance
    disc : Disc or None
        None where the photograph is not good enough to look for it: then nothing is guessed.
    """
    stated: dict[Source, str | None] = {
        "request": request.laterality,
        "header": instance.laterality,
        "file_name": request.named_eye,
    }
    for source, said in stated.items():
        if said in SIDES:
            return Eye(said, source, None, _contradictions(source, said, stated, disc))
    return Eye() if disc is None else _by_disc(disc)


def _by_disc(disc: Disc) -> Eye:
    side, confidence = likelier(disc)
    value, limit = confidence, LEAST_CONFIDENCE
    if tells(disc):
        found = (
            f"by the optic disc it is a {SIDES[side]} eye (probability {confidence:.3g}): send `laterality` to be sure"
        )
    elif abs(disc.x) < LEAST_ASIDE:
        value, limit = round(abs(disc.x), 3), LEAST_ASIDE
        found = "the optic disc lies in the middle, where it does not tell: send `laterality`, R or L"
    else:
        found = (
            f"the optic disc does not tell (a {SIDES[side]} eye with probability {confidence:.3g}, {limit:g} is needed): send "
            "`laterality`, R or L"
        )
    message = f"neither the request nor the image's header nor the file's name says which eye it is; {found}"
    checks = (Check("laterality_stated", "warn", message, value, limit),)
    return Eye(side, "disc", confidence, checks) if tells(disc) else Eye(checks=checks)


def _contradictions(
    followed: Source, side: str, stated: dict[Source, str | None], disc: Disc | None
) -> tuple[Check, ...]:
    who = _WHO[followed]
    checks = [
        Check("laterality", "warn", f"{who} says {side}, {_WHO[source]} {said}; {who} was followed", side, said)
        for source, said in stated.items()
        if said and said != side
    ]
    if disc is not None and tells(disc):
        seen, confidence = likelier(disc)
        if seen != side:
            message = (
                f"{who} says {side}, but the photograph looks like a {SIDES[seen]} eye (optic disc, probability "
                f"{confidence:.3g}): are the eyes swapped, or is it mirrored? {who} was followed"
            )
            checks.append(Check("laterality", "warn", message, side, seen))
    return tuple(checks)
