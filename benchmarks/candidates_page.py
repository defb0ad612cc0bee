"""The page ``docs/candidates.md`` from the figures of ``python -m benchmarks.candidates``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

KEPT = (1, 2, 3, 4, 6, 8, 12)
SIZES_MM = ((3, 4), (4, 6), (6, 10), (10, 20), (20, 30))
_TEXT = """# Candidates

For everybody who sends a chest CT without saying where to look. Written by `make candidates` ({date}, commit
`{commit}`).

When no place is named, Pellucid searches the lungs itself and lets the lung model answer for what it found. Such a place is
marked `"origin": "candidate"` and carries a `score`. **The search is not a detector that was tested on patients**: it has
seen one real chest CT, of the upper half of the lungs. It misses nodules and finds what is none. No candidate does not mean
no nodule. Turn it off with `candidates = "off"`.

## What it does

1. The series is read on a grid of 1 mm (coarser where the field is very large); thin slices are averaged, thick ones
   interpolated.
2. The lung field: air that the body encloses in its plane, without windpipe and large bronchi, closed over 12 mm so that
   vessels and nodules on the pleura are inside. Less than 250 ml of it, or gas instead of lung, and nothing is searched;
   the answer says so.
3. Bright blobs of 3 to 30 mm: peaks of the scale-space Laplacian whose three curvatures agree. A vessel has two, a plate
   one.
4. What stands out there is cut free from thinner vessels and measured; a logistic regression on six measures gives the
   score.
5. At most **{most}** candidates with a score of at least **{least}** are kept. What the end of the scan cuts is left out.

The score says how much a place looks like the nodules that the weights were fitted on. It is no probability of a nodule,
and says nothing about malignancy.

## The real CT

One patient (`ct_lungfcp_0001`, Lung-Fused-CT-Pathology, {slices} slices of 1 mm, {lung_ml:.0f} ml of lung) with one known
lesion, a part-solid adenocarcinoma on the pleura of the right apex; its middle was read off the images by us. It is found
when the candidate's centre lies within 13 mm of its middle. Everything else counts as false; no radiologist has read the
scan for us, and the left lung, whose apex is scarred, holds it all.

| slices | lesion found at rank | score | other candidates kept | scores of the best {most} others |
| --- | --- | --- | --- | --- |
{real}

One lesion that is found gives a sensitivity of 1 of 1, 95 % interval 0.21 to 1.00: it proves little.

## Planted nodules

{total} nodules planted into copies of that CT, at random places of both lungs, seed {seed}: balls with soft edges, and
shapes that radiologists drew in LIDC-IDRI (test patients; the readers' majority), filled evenly with 30 HU (solid), -600 HU
(ground glass), or both (part-solid). Found: among the best {most} of all that is not planted, with a score of at least
{least}, its centre within half a diameter (at least 2.5 mm) of the nodule's. Intervals are Wilson's, 95 %.

The weights were fitted with other nodules (seed {fit_seed}, shapes of training patients) and on the other blobs of the LEFT
lung only. The measures, the rules and the limit of the score were chosen while looking at seed {fit_seed} and at the false
candidates of both lungs of this same CT, for want of another one: the counts of false candidates are therefore flattering.
Seed {seed} was measured twice; in between the rule about vessels was made stricter, because drawn vessels passed as nodules
in the unit tests. That cost 4 of the nodules and added a false candidate.

| nodules | n | found | sensitivity |
| --- | --- | --- | --- |
{groups}

By the number of candidates kept; "without limit" takes no notice of the score. False candidates are those of the real CT as
sent:

| kept | sensitivity | false in the scan | sensitivity without limit | false without limit |
| --- | --- | --- | --- | --- |
{froc}

Thicker slices, made by averaging (the first third of the copies):

| slices | n | found | sensitivity |
| --- | --- | --- | --- |
{thick}

## The phantom

`pellucid phantom` draws {phantom_n} nodules in {phantoms} series: {phantom_found} found, {phantom_false} others kept.

## Time

{seconds} s of one core's time for {slices} slices of 512 x 512 px, decoding not counted; the filters use several cores.

## Limits

- One patient. False candidates at the hila, in the lower lobes, in fibrosis, emphysema, pneumonia or effusion were not
  measured; expect more of them in a whole chest than in this upper half.
- Planted nodules are easier than real ones: even filling, no spicules finer than a reader's contour, no motion.
- A nodule broader than 24 mm on the pleura, one in consolidated lung, and one behind the heart's border may lie outside the
  field.
- Ground glass, and small nodules on a vessel, are missed most; the thicker the slices, the more is missed.
- Only axial series are answered for; a lung that the field of view cuts off at the side is not recognised.
"""


def wilson(found: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if n == 0:
        return (0.0, 1.0)
    z, share = 1.959964, found / n
    middle = share + z * z / (2 * n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))


def found(row: dict[str, Any], most: int, least: float) -> bool:
    """Whether a nodule is among the candidates kept."""
    return row["rank"] is not None and row["rank"] <= most and row["score"] >= least


def false(real: dict[str, Any], most: int, least: float) -> int:
    """Candidates of the real CT beside the lesion: those kept, the lesion taking one place where it ranks high enough."""
    others = sorted(real["others"], reverse=True)
    rank = real["rank"] if real["rank"] is not None and real["score"] >= least else most + 1
    places = most - (1 if rank <= most else 0)
    return sum(value >= least for value in others[:places])


def page(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    most, least = results["setting"]["most"], results["setting"]["least_score"]
    rows = [row for row in results["planted"] if row["slices"] == "as sent"]
    sent = results["real"][0]

    def line(name: str, chosen: Sequence[dict[str, Any]]) -> str:
        hits = sum(found(row, most, least) for row in chosen)
        return f"| {name} | {len(chosen)} | {hits} | {_share(hits, len(chosen))} |"

    def those(key: str, value: object) -> list[dict[str, Any]]:
        return [row for row in rows if row[key] == value]

    def between(low: float, high: float) -> Callable[[dict[str, Any]], bool]:
        return lambda row: low <= row["diameter_mm"] < high

    groups = [line("all", rows), line("all, right lung (weights not fitted there)", those("lung", "right"))]
    groups += [line("all, left lung", those("lung", "left"))]
    groups += [line(f"{low} to {high} mm", list(filter(between(low, high), rows))) for low, high in SIZES_MM]
    groups += [line("6 mm and more", list(filter(between(6, 99), rows)))]
    groups += [line(value, those("texture", value)) for value in ("solid", "part-solid", "ground glass")]
    names = {"inside": "inside the lung", "pleura": "on the pleura", "vessel": "on a vessel"}
    groups += [line(name, those("place", value)) for value, name in names.items()]
    groups += [line(name, those("shape", value)) for value, name in (("ball", "balls"), ("drawn", "drawn shapes"))]
    froc = []
    for kept in KEPT:
        with_limit, without = (sum(found(row, kept, limit) for row in rows) for limit in (least, 0.0))
        froc.append(
            f"| {kept} | {with_limit / len(rows):.2f} | {false(sent, kept, least)} "
            f"| {without / len(rows):.2f} | {false(sent, kept, 0.0)} |"
        )
    thick = sorted({row["slices"] for row in results["planted"]} - {"as sent"})
    real = [
        f"| {entry['slices']} | {entry['rank'] or 'not found'} | {entry['score']:.2f} | {false(entry, most, least)} "
        f"| {', '.join(f'{value:.2f}' for value in entry['others'][:most])} |"
        for entry in results["real"]
    ]
    return _TEXT.format(
        **{key: results[key] for key in ("date", "commit", "seed", "fit_seed", "slices", "lung_ml", "seconds")},
        most=most,
        least=least,
        total=len(rows),
        real="\n".join(real),
        groups="\n".join(groups),
        froc="\n".join(froc),
        thick="\n".join(line(name, [row for row in results["planted"] if row["slices"] == name]) for name in thick),
        phantoms=len(results["phantoms"]),
        phantom_n=sum(entry["nodules"] for entry in results["phantoms"]),
        phantom_found=sum(entry["found"] for entry in results["phantoms"]),
        phantom_false=sum(entry["others"] for entry in results["phantoms"]),
    )


def _share(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits / n:.2f} ({low:.2f} to {high:.2f})" if n else "none"
