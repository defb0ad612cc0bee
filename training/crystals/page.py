"""The page ``docs/experiments/crystals.md``, from the figures of ``crystals.json``."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from training.crystals import prototypes as p
from training.crystals.data import COPIES
from training.crystals.robustness import BEST, METHODS, NETWORKS
from training.crystals.transitions import half_way

UNITS = {"displacement": "Å", "vacancy": "% vacancies", "substitution": "% substituted"}


def percent(figure: dict[str, Any] | None) -> str:
    """A share in percent with one decimal, "–" where nothing was asked."""
    return "–" if figure is None or not figure["n"] else f"{100 * figure['value']:.1f}"


def interval(figure: dict[str, Any]) -> str:
    """A share with its 95 % interval and n."""
    low, high = figure["interval"]
    return f"{100 * figure['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n = {figure['n']})"


def level(row: dict[str, Any]) -> str:
    """What was done to the structures of a row."""
    if not row["level"]:
        return "pristine"
    value = f"{row['level']:g}" if row["kind"] == "displacement" else f"{100 * row['level']:g}"
    return f"{value} {UNITS[row['kind']]}" + (" \\*" if row["beyond"] else "")


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def source(part: dict[str, Any]) -> str:
    """The line under a table."""
    return f"*`{part['command']}`, {part['date']}, commit {part['commit']}.*"


def accuracy_table(found: dict[str, Any], key: str) -> str:
    """Table 3.2: a row a damage, a column a method."""
    names = [name for name in METHODS if name in found["rows"][0][key]]
    return table(
        ["damage", *names], [[level(row), *(percent(row[key][name]) for name in names)] for row in found["rows"]]
    )


def networks_section(found: dict[str, Any]) -> str:
    """What was trained and what it reaches on unseen elements."""
    rows = [
        [
            NETWORKS[name],
            str(len(entry["classes"])),
            f"{entry['structures']} of {entry['elements']} elements ({' and '.join(entry['learnt from'])})",
            str(entry["epochs"]),
            f"{entry['seconds']:.0f} s",
            f"{100 * entry['pristine']['accuracy']:.2f} (n = {entry['pristine']['n']})",
            f"{100 * entry['damaged']['accuracy']:.2f} (n = {entry['damaged']['n']})",
        ]
        for name, entry in found["networks"].items()
    ]
    head = ["network", "classes", "learnt from", "epochs", "training", "right on pristine, %", "right on damaged, %"]
    return table(head, rows)


def confusion_section(found: dict[str, Any]) -> str:
    """Confusion of the network that has seen defects, on damaged test structures."""
    entry = found["networks"].get("damaged")
    if entry is None:
        return "Not measured: the network that has seen defects was not trained."
    rows = [[kind, *map(str, row)] for kind, row in zip(entry["classes"], entry["damaged"]["confusion"], strict=True)]
    return table(["is \\ told as", *entry["classes"]], rows)


def rhombohedral_section(found: dict[str, Any]) -> str:
    """Telling rh from hex: all methods on these two classes only, at some damages."""
    chosen = [r for r in found["rows"] if (r["kind"], r["level"]) in WANTED]
    names = [name for name in METHODS if name in chosen[0]["rh or hex"]]
    return table(["damage", *names], [[level(r), *(percent(r["rh or hex"][n]) for n in names)] for r in chosen])


WANTED = (
    ("displacement", 0.0),
    ("displacement", 0.02),
    ("displacement", 0.06),
    ("displacement", 0.2),
    ("vacancy", 0.05),
    ("vacancy", 0.25),
    ("vacancy", 0.6),
    ("substitution", 0.5),
)


def around(place: int, ratio: list[float], agrees: list[bool]) -> str:
    """First and last value of the unbroken stretch around a place in which a method agrees."""
    if not agrees[place]:
        return "not there"
    first = last = place
    while first > 0 and agrees[first - 1]:
        first -= 1
    while last + 1 < len(agrees) and agrees[last + 1]:
        last += 1
    return f"{ratio[first]:.3f} to {ratio[last]:.3f}"


def transition_section(found: dict[str, Any]) -> str:
    """Where the classes change along both ways."""
    first, second = found["bcc to sc"], found["rhombohedral"]
    lines = []
    for name in NETWORKS:
        crossing = half_way(first["share"], first[name]["sc"]["mean"])
        where = "never" if math.isnan(crossing) else f"at {100 * crossing:.0f} % of the centres removed"
        lines.append(f"- {NETWORKS[name]}: the probability of sc passes one half {where}.")
    last = [k for k, answer in enumerate(first["template matching"]) if answer == "bcc"]
    lines.append(
        "- template matching says bcc up to "
        + (f"{100 * first['share'][last[-1]]:.0f} %" if last else "no share")
        + "; spglib (loose) finds bcc (229) or sc (221) at "
        + f"{sum(g in (221, 229) for g in first['spglib, loose'])} of {len(first['share'])} points (one draw a point)."
    )
    ratio, thesis = second["ratio"], second["thesis"]
    body = []
    for name, place in p.CUBIC_RATIOS.items():
        near = min(range(len(ratio)), key=lambda k: abs(math.log(ratio[k] / place)))
        winner = [max(thesis, key=lambda kind: thesis[kind][k]) for k in range(len(ratio))]
        spans = (
            around(near, ratio, [answer == name for answer in winner]),
            around(near, ratio, [group == p.SPACE_GROUPS[name] for group in second["spglib, loose"]]),
            around(near, ratio, [answer == name for answer in second["template matching"]]),
        )
        body.append([name, f"{place:.4f}", f"{thesis[name][near]:.3f}", *spans])
    head = ["lattice", "its c/a", "probability there", "network, around it", "spglib, loose", "template matching"]
    return "\n".join(lines) + "\n\n" + table(head, body)


def landmark_section(found: dict[str, Any]) -> str:
    """How much of the maps lies on the diffraction spots."""
    names = list(next(iter(found["classes"].values())))
    body = []
    for kind, entry in found["classes"].items():
        cells = []
        for name in names:
            share = entry[name]["share"]
            untrained = entry[name].get("untrained")
            cells.append(
                ("–" if share is None else f"{share:.2f}") + (f" ({untrained:.2f})" if untrained is not None else "")
            )
        body.append([kind, f"{entry[names[0]]['null']:.2f}", *cells])
    return table(["class", "null: spots' share of the ring", *names], body)


def speed_section(found: dict[str, Any]) -> str:
    """Milliseconds a structure."""
    body = [
        [name, f"{found[key]['median']:.1f}", f"{found[key]['p95']:.1f}"]
        for name, key in (("fingerprint", "fingerprint"), ("class", "class"), ("both", "both"))
    ]
    return table(["", "median, ms", "95th percentile, ms"], body)


def wrapped(text: str) -> str:
    """Markdown with its plain paragraphs filled to 120 characters; headings, tables, lists, pictures and code stay."""
    blocks = []
    for block in text.split("\n\n"):
        kept = block.lstrip().startswith(("#", "|", "!", "- ", "```"))
        prose = " ".join(block.split())
        blocks.append(block if kept else textwrap.fill(prose, 120, break_long_words=False, break_on_hyphens=False))
    return "\n\n".join(blocks).rstrip() + "\n"


def page(results: dict[str, Any]) -> str:
    """The page as Markdown; every part must have been measured."""
    robust, train, speed = results["robustness"], results["train"], results["speed"]
    pristine = robust["rows"][0]["seven"][NETWORKS["thesis"]]
    worst = {
        kind: [r for r in robust["rows"] if r["kind"] == kind and not r["beyond"]][-1]
        for kind in UNITS
        if kind != "substitution"
    }
    return wrapped(f"""# Crystals: structure from a diffraction fingerprint

Chapter 3 of the thesis, published as A. Ziletti, D. Kumar, M. Scheffler, L. M. Ghiringhelli, *Insightful classification of
crystal
structures using deep learning*, Nature Communications 9, 2775 (2018). Written by `python -m training.crystals report` from
`crystals.json`. Nothing of this is part of the service.

**In short.** The network as in the thesis, on elements that it never saw: {interval(pristine)} right on pristine structures,
{interval(worst["displacement"]["seven"][NETWORKS["thesis"]])} at σ = 0.06 Å and
{interval(worst["vacancy"]["seven"][NETWORKS["thesis"]])} with 60 % of the atoms missing; spglib at the best tolerance for
each single
structure: {percent(worst["displacement"]["seven"][BEST])} % and
{percent(worst["vacancy"]["seven"][BEST])} %. Fingerprint and class take {speed["both"]["median"]:.1f}
ms
(published: {speed["published"]:g} ms, on the hardware of its time).

## Structures and fingerprint

{len(p.PROTOTYPES)} of AFLOW's elemental prototypes in eight space groups
({", ".join(f"{k} = {v}" for k, v in p.SPACE_GROUPS.items())})
are filled with 83 elements at the volume an atom of their own solid (CIF files of the Crystallography Open Database). c/a
and free
coordinates are drawn from ranges that elements show. spglib gives the labels (symprec {p.LABEL_PRECISION:g} Å). The
published set
(AFLOWLIB, relaxed with density functional theory; more than 100,000 with the defective ones) is not available here; ours has
{83 * COPIES * 8:,} pristine ones and as many damaged ones.
**Elements are split**, not structures; for cubic classes a new element changes little but the form factors, so this split
is milder than it sounds. c/a and coordinates of test structures are new draws.

The fingerprint has the published parameters: wavelength 5e-12 m, 64 x 64 pixels of 4e-4 m at 0.1 m, turned by ±45° about x,
y, z (red,
green, blue), ring of 10 to 30 px, mean nearest-neighbour distance 1 Å, about 256 atoms, one min-max over the three channels;
q on
Ewald's sphere, x-ray form factors of the elements, solid angle of the pixels. It is not invariant to rotation: structures
stand on
standard axes, rh on hexagonal axes; half of the training structures of rh stand with the threefold axis along [111] instead,
which
fig. 3.4d needs. Training structures have 180 to 360 atoms.

## Networks (table 3.1)

{networks_section(train)}

The kernels, filters and layers are those of the published code; {next(iter(train["networks"].values()))["parameters"]:,}
parameters
with seven classes. Trained by us with Adam, batch 32. {source(train)}

The network that has seen defects, on damaged structures of unseen elements:

{confusion_section(train)}

## Table 3.2: defects, seven classes

Right answers in percent. {robust["structures a class"]} structures of each of the eight types of test elements, rh and hex
counted as one
class as in the thesis, the same structures for all methods; spglib gets the first {robust["of these for spglib"]} of each
type.
Rows with \\* lie beyond the thesis' table. The published columns are not repeated here: the thesis' numbers were not
at hand in a form that we could check.

{accuracy_table(robust, "seven")}

spglib's tolerances: {", ".join(f"{k} {v:g} Å" for k, v in robust["tolerances"].items())}; "its best for each" picks, by
looking at the right
answer, among {", ".join(f"{x:g}" for x in robust["precisions"])} Å. It has {robust["limit_s"]:g} s for a structure at all
tolerances; what
it did not answer counts as wrong (at most {100 * max(r["unanswered"] for r in robust["rows"]):.0f} % of a row's questions).
Template matching is OVITO's polyhedral template matching, the class of most atoms; it has no template for bct and rh, so it
cannot
reach 100 %: on hex, sc, fcc, diam and bcc alone it has
{percent(robust["rows"][0]["templates only"]["template matching"])} % on pristine structures,
{percent(worst["displacement"]["templates only"]["template matching"])} % at 0.06 Å and
{percent(worst["vacancy"]["templates only"]["template matching"])} % with 60 % vacancies. {source(robust)}

![Accuracy against damage](crystals_robustness.svg)

## Beyond the thesis: eight classes, rh apart from hex

{accuracy_table(robust, "eight")}

On structures that are rh or hex only:

{rhombohedral_section(robust)}

## Transitions (figs. 3.4b, 3.4d)

{transition_section(results["transitions"])}

bcc to sc: body centres are removed at random from a block of 6 x 6 x 6 cells. Rhombohedral path: one atom a cell,
{len(results["transitions"]["rhombohedral"]["ratio"])} values of c/a; each structure is turned so that the nearest cubic
lattice stands along
x, y, z. (A path that keeps one orientation cannot do this: sc meets bcc and fcc as a twin, turned by 180° about [111].)
Element:
{results["transitions"]["element"]}. {source(results["transitions"])}

![Transitions](crystals_transitions.svg)

## Attentive response maps (fig. 3.5)

![Most active units of three layers](crystals_units.png)

![Fingerprint and template of every class](crystals_templates.png)

Share of the positive response that lies on the spots of the fingerprint (a channel of at least
{results["landmarks"]["spot"]:g}), means over
{results["landmarks"]["count"]} test structures a class; in brackets the same of an untrained network. A template is the sum
of the
maps of all units of the last convolution: `linear` is the thesis' eq. 3.2, `deconvnet` and `guided` gate the way back. Where
the
untrained network's share is as high, the map shows the image more than what was learnt.

{landmark_section(results["landmarks"])}

{source(results["landmarks"])}

## Speed

{speed_section(speed)}

One processor thread, {speed["structures"]} structures of {speed["atoms"][0]} to {speed["atoms"][1]} atoms. {source(speed)}

## Again

```sh
python -m training.crystals prepare      # fingerprints of the training structures
python -m training.crystals train
python -m training.crystals robustness
python -m training.crystals transitions
python -m training.crystals landmarks
python -m training.crystals speed
python -m training.crystals report
```

Not run: the published structures of AFLOWLIB (not available here).
""")
