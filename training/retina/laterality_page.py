"""The page about the eye that the optic disc tells: ``docs/results/retina_laterality.md`` from the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.store.agreement import wilson


def _share(entry: dict[str, Any]) -> str:
    low, high = (100 * value for value in entry["interval"])
    return f"{100 * entry['value']:.1f} % ({low:.1f} to {high:.1f})"


def _counted(part: int, of: int) -> str:
    if not of:
        return "–"
    low, high = (100 * value for value in wilson(part, of))
    return f"{part} of {of}, {100 * part / of:.1f} % ({low:.1f} to {high:.1f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _reliability(measured: dict[str, Any]) -> str:
    rows = [
        [name, f"{one['from']:g} to {one['to']:g}", f"{one['confidence']:.3f}", _counted(one["right"], one["n"])]
        for name, figures in measured.items()
        for one in figures["reliability"]
    ]
    return _table(["", "confidence", "mean", "right"], rows)


def _template(weights: Sequence[tuple[str, float]]) -> str:
    """The weights round the disc: a row of the raster a line, the temple of a right eye on the left."""
    rows: dict[str, list[str]] = {}
    for name, value in weights:
        rows.setdefault(name.split()[1], []).append(f"{value:+.2f}")
    columns = [name.split()[2] for name, _ in weights[: len(weights) // len(rows)]]
    return _table(["", *columns], [[row, *values] for row, values in rows.items()])


def page(found: dict[str, Any]) -> str:
    """The page as Markdown."""
    measured, middle = found["measured"], {name: one["middle"] for name, one in found["measured"].items()}
    learning = "; ".join(
        f"{name}: {one['n']} photographs of {one['patients']} patients" for name, one in found["learning"].items()
    )
    refused = "; ".join(f"{name} {count}" for name, count in found["refused"].items() if count) or "none"
    every = f", one in {found['every']} of the equalised" if found["every"] > 1 else ""
    limit = f"{found['limit']:g}"
    table = _table(
        [
            "",
            "photographs",
            "patients",
            "likelier eye is right",
            "the disc's half alone",
            "answered",
            "right where answered",
        ],
        [
            [
                name,
                one["n"],
                one["patients"],
                _share(one["accuracy"]),
                _share(one["accuracy_by_half"]),
                _share(one["answered"]),
                _counted(one["n_answered"] - one["wrong_answered"], one["n_answered"]),
            ]
            for name, one in measured.items()
        ],
    )
    in_middle = _table(
        ["", "photographs", "likelier eye is right", "right where its probability is high"],
        [
            [name, one["n"], _counted(one["right"], one["n"]), _counted(one["right_probable"], one["probable"])]
            for name, one in {"learning half": found["middle_learning"], **middle}.items()
        ],
    )
    places = _table(
        [
            "IDRiD",
            "photographs",
            "median",
            "90 % within",
            "worst",
            "inside the disc",
            "eye answered",
            "eye of that half",
        ],
        [
            [
                part,
                one["n"],
                *(f"{one[name]:.2f}" for name in ("median", "q90", "worst")),
                _counted(one["inside"], one["n"]),
                one["answered"],
                _counted(one["agreeing"], one["answered"]),
            ]
            for part, one in found["place"].items()
        ],
    )
    weights = list(found["weights"].items())
    alone = _table(["weight", ""], [[f"`{name}`", f"{value:+.2f}"] for name, value in weights[:-112]])
    green, vessels = (_template(weights[at : at + 56 or None]) for at in (-112, -56))
    return f"""# Which eye a photograph shows, by its optic disc

Written on {found["date"]} by `python -m training.retina.laterality`. All numbers are in
[retina_laterality.json](retina_laterality.json).

The service follows the request, then the image's header, then the file's name. Where none of them says which eye it is, it looks
for the optic disc (`service/intake/disc.py`) and follows that from a probability of **{limit}** on; below, the eye stays unknown
and the answer says so. The same limit decides whether a stated eye is contradicted.

## How it was measured

- Patients in two halves by a hash of their name; IDRiD in its official parts. One half gave the weights and the limit, all
  figures are of the other, but where the table says train.
- Learnt from: {learning}{every}. EyePACS says the eye, IDRiD's lesion images where the disc is.
- The limit is the smallest of 0.8, 0.9, 0.95, 0.98 and 0.99 from which on 99.5 % of the answers of the learning half are right.
  The first rule, 99 % with answers also where the disc is in the middle, gave 0.9, with 25 of 1148 answers of the measured half
  wrong: too many for an eye that nobody stated.
- Photographs in natural colour count when the quality gate passes them; it refused, in the measured half: {refused}. The
  equalised copies (256 px, colours changed by who uploaded them) are a stress test and all count.
- The raster of the template and the penalty on the weights (0.001) were chosen among a few with both halves in view.
- The truth is the eye in the name of the EyePACS photograph; wrong names count against the disc.
- Intervals: percentile bootstrap, 2000 draws of whole patients; of counts, Wilson's interval (photographs, not patients).

## Right and answered

*The disc's half alone*: right half of the photograph, right eye: what the place of the disc says without the fovea.

{table}

## Is the confidence right?

{_reliability(measured)}

## Disc in the middle

Within a quarter of the field's radius of the upright line through its centre its place says nothing, and the fovea beside it was
not recognised well: no answer is given there, whatever the probability.

{in_middle}

## Where the disc is

Distance of the likeliest place from the centre of the drawn disc, in diameters of the disc; below 0.5 it is inside. IDRiD does
not say the eye, but its photographs are upright: where the disc is drawn beside the middle, the eye answered is held against the
half it is in.

{places}

## Limits

- A photograph that a camera or a program mirrored is read as the other eye: that is what the warning is for. One that is upside
  down is recognised by the fovea above the disc, where it can be seen; {100 * found["turned"]:.0f} % are taken to be before
  looking, the share in the learning half. Where nearly none is, as in a clinic with one upright camera, the answers are more
  cautious than they need be.
- EyePACS photographs are of patients with diabetes in the United States; other cameras and fields of view were not measured.
- It costs {found["ms"]:.0f} ms of one processor for a photograph of 2048 px.

## The weights

{alone}

Brightness of green light round the disc of a right eye; rows downwards, columns to the nose, 16 is the radius of the field:

{green}

Vessels:

{vessels}
"""
