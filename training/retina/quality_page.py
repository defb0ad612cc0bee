"""The page about the quality gate: ``docs/results/retina_quality.md`` from the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.retina.degradations import DEGRADATIONS


def _percent(entry: dict[str, Any]) -> str:
    low, high = (100 * value for value in entry["interval"])
    return f"{100 * entry['share']:.1f} % ({low:.1f} to {high:.1f})"


def _codes(entry: dict[str, Any]) -> str:
    return ", ".join(f"`{code}` {count}" for code, count in entry["codes"].items()) or "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _refused(named: dict[str, dict[str, Any]]) -> str:
    rows = [[name, entry["n"], entry["refused"], _percent(entry), _codes(entry)] for name, entry in named.items()]
    return _table(["", "n", "refused", "share", "codes"], rows)


def page(found: dict[str, Any]) -> str:
    """The page as Markdown."""
    good, bad = found["good"], found["bad"]
    rows = [
        [
            one["degradation"],
            f"{one['strength']:g}",
            one["n"],
            _percent(one),
            f"{100 * one['named'] / one['n']:.0f} %",
            _codes(one),
        ]
        for one in found["degraded"]
    ]
    right = "; ".join(
        f"{name.split(',')[0]}: {' or '.join(f'`{code}`' for code in codes)}"
        for name, (_, _, codes) in DEGRADATIONS.items()
    )
    listed = [
        [
            f"`{one['file']}`",
            f"`{one['reason']}`",
            "setting" if one["setting"] else "measured",
            ", ".join(f"`{code}`" for code in one["codes"]) or "passes",
        ]
        for one in found["bad_photographs"]
    ]
    passed = "; ".join(f"{group}: {name}" for group, name in found["others_passed"]) or "none"
    wrong = "; ".join(f"{s} `{file}` ({', '.join(codes)})" for s, file, codes in found["good_refused"]) or "none"
    limits = [[f"`{name}`", both["code"], both["rule"]] for name, both in found["limits"].items()]
    measured = {name: halves["measured"] for name, halves in good.items()}
    setting = {f"{name}, setting half": halves["setting"] for name, halves in good.items() if "setting" in halves}
    height, width = found["seconds"]["pixels"]
    return f"""# The quality gate of retinal photographs

Written by `python -m training.retina.quality`, {found["date"]}. All numbers are in [retina_quality.json](retina_quality.json).
Intervals: Wilson, 95 %.

## How it was measured

- {found["split"].capitalize()}. IDRiD (grading set, 516) names no patients: there it is by photograph, and its few
  photographs that occur twice may be on both sides. EyePACS is the 202 photographs in natural colour.
- *Really bad* photographs of EyePACS were listed by one person who looked at all 202 before the limits were set, in part with
  the scores of an earlier gate in sight
  (`training/retina/bad_photographs.csv`): a third of the field or the macula cannot be read. That is no reading by an
  ophthalmologist. All others count as good, those of middling quality too.
- The measures themselves were chosen while looking at the setting half, and at the gate's answers to all of EyePACS; so were the
  margins. For the limits the other half is unseen, for the choice of measures and margins not wholly.
- A limit lies beyond the most extreme good photograph of the setting half: a level by a tenth, a share of the field by a fortieth
  of the field, but at 5 % at least. The limit of red contrast is the geometric middle between the highest good photograph
  and the lowest other round photograph of the setting half. Limits of roundness, size and the other colours were set before.

{_table(["limit", "in the code", "from the rule"], limits)}

## Good photographs that are refused

{_refused(measured | setting)}

Refused, both halves: {wrong}.

The equalised copies (256 px, colours stretched by their uploader) are no photographs as a camera gives them; nothing was set
on them, every eighth was judged:

{_refused({"EyePACS, equalised": found["equalised"]})}

## Really bad photographs

{_refused({"unseen half": bad["measured"], "setting half": bad["setting"]})}

{_table(["EyePACS file", "listed as", "half", "the gate says"], listed)}

## Photographs made worse

Good photographs of the unseen half that the gate passes, from both sets. *Named*: a code that fits is among the reasons
({right}).

{_table(["what", "strength", "n", "refused", "named", "codes"], rows)}

## Pictures of other things

`not_a_fundus` is right; any other code refuses the picture with a wrong word. *Round*: the middle on black, like a fundus
camera's. Half of the round natural photographs took part in the limit of red contrast.

{_refused(found["others"])}

Not refused: {passed}.

## Time

{found["seconds"]["median"]:.2f} s of processor time for {width} x {height} px (median of {found["seconds"]["repeats"]}).
"""
