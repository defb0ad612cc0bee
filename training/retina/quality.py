"""The quality gate of photographs: how its limits are set, and what it refuses on photographs that took no part in that.

``python -m training.retina.quality`` writes ``docs/results/retina_quality.json`` and ``.md``. Patients are in two halves by a
hash of their name: one sets the limits, on the other all figures are measured.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from service.intake import circle, fundus_quality
from service.store.agreement import wilson
from training.data import ROOT, fold_of, shared_data
from training.retina.degradations import DEGRADATIONS, degraded
from training.retina.other_pictures import pictures
from training.retina.quality_page import page

RESULT = ROOT / "docs" / "results" / "retina_quality.json"
BAD = Path(__file__).parent / "bad_photographs.csv"
ARCHIVES = {
    "IDRiD": "idrid/grading.zip",
    "EyePACS, natural": "eyepacs/raw_pairs_512.zip",
    "EyePACS, equalised": "eyepacs/equalised_256.zip",
}
GOOD = ("IDRiD", "EyePACS, natural")
"""The equalised copies are a stress test: nothing is set on them."""
LIMITS = {
    "LEAST_SHARPNESS": ("sharpness", -1),
    "LEAST_DETAIL": ("detail", -1),
    "LEAST_BRIGHTNESS": ("brightness", -1),
    "MOST_DARK": ("dark", 1),
    "MOST_WASHED": ("washed", 1),
    "MOST_CLIPPED": ("clipped", 1),
    "MOST_CUT_OFF": ("cut_off", 1),
    "MOST_SHADOW": ("shadow", 1),
    "MOST_VEIL": ("veil", 1),
}
"""Limits of the gate, the measure that each bounds, and whether that is bad where it is low or high."""
LEVEL_MARGIN, SHARE_MARGIN, LEAST_SHARE = 0.9, 0.025, 0.05
CODES = ("not_a_fundus", "out_of_focus", "too_dark", "too_bright", "field_cut_off", "artefact")


@dataclass(frozen=True)
class Judged:
    """One photograph and what the gate said; `measures` are kept of those that set the limits."""

    source: str
    file: str
    setting: bool
    """On the half that sets the limits."""
    bad: str
    """The reason from the list of really bad photographs; empty for the others."""
    codes: tuple[str, ...]
    measures: dict[str, float]


def bad_photographs() -> dict[str, tuple[str, str]]:
    """Really bad photographs of EyePACS in natural colour, found by looking at all 202: reason and note by file."""
    with BAD.open(encoding="utf-8") as stream:
        return {row["file"]: (row["reason"], row["note"]) for row in csv.DictReader(stream)}


def setting_half(source: str, file: str) -> bool:
    """Whether a photograph is on the half that sets the limits: by patient; IDRiD names none, so by photograph."""
    patient = f"idrid {file}" if source == "IDRiD" else f"eyepacs {file.split('_')[0]}"
    return fold_of(patient, 2) == 0


def read_all(data: Path, source: str, every: int = 1) -> Iterator[tuple[str, np.ndarray]]:
    """Name and RGB pixels of the photographs of one archive."""
    with zipfile.ZipFile(data / ARCHIVES[source]) as archive:
        for name in sorted(n for n in archive.namelist() if n.endswith(".jpg"))[::every]:
            yield name, np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))


def codes(photograph: np.ndarray) -> tuple[str, ...]:
    """Codes of the gate's reasons."""
    return tuple(reason["code"] for reason in fundus_quality.assess(photograph).reasons)


def measures(photograph: np.ndarray) -> dict[str, float]:
    """All that the gate measures on a photograph."""
    field = circle.find(photograph)
    if field is None:
        return {}
    return {**asdict(fundus_quality.measure(photograph, field)), "cut_off": field.cut_off}


def limits(photographs: Iterable[Judged], others: Iterable[float]) -> dict[str, float]:
    """What the rule gives, rounded to two digits.

    A limit lies beyond the most extreme of the good photographs: a level by a tenth, a share of the field by a fortieth of the
    field, but at 0.05 at least. Red contrast, which tells the retina from other pictures, has its limit in the geometric
    middle between the highest of the good photographs and the lowest of the other round pictures.

    Parameters
    ----------
    photographs : iterable of Judged
        Good ones, of the half that sets the limits.
    others : iterable of float
        Red contrast of round pictures of other things, of the half that sets the limits.
    """
    found = [one.measures for one in photographs if one.measures]
    given = {}
    for name, (measure, sign) in LIMITS.items():
        extreme = sign * max(sign * one[measure] for one in found)
        given[name] = extreme * LEVEL_MARGIN if sign < 0 else max(extreme + SHARE_MARGIN, LEAST_SHARE)
    highest = max(one["red_contrast"] for one in found)
    given["MOST_RED_CONTRAST"] = float(np.sqrt(highest * min(others)))
    return {name: float(f"{value:.2g}") for name, value in given.items()}


def share(refused: int, n: int) -> dict[str, Any]:
    """A share with Wilson's 95 % interval."""
    return {
        "refused": refused,
        "n": n,
        "share": round(refused / n, 4),
        "interval": [round(v, 4) for v in wilson(refused, n)],
    }


def counted(judged: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """How many were refused, and how often with which code."""
    found = Counter(code for one in judged for code in one)
    return {**share(sum(map(bool, judged)), len(judged)), "codes": {c: found[c] for c in CODES if found[c]}}


def judge_photographs(data: Path, every_equalised: int = 8) -> list[Judged]:
    """The gate's word on the photographs of all three archives; of the equalised ones, on every eighth."""
    bad = bad_photographs()
    judged = []
    for source in ARCHIVES:
        every = every_equalised if source == "EyePACS, equalised" else 1
        for file, photograph in tqdm(read_all(data, source, every), desc=source, mininterval=2):
            reason = bad.get(file, ("", ""))[0] if source != "IDRiD" else ""
            setting = setting_half(source, file)
            kept = measures(photograph) if setting and source in GOOD and not reason else {}
            judged.append(Judged(source, file, setting, reason, codes(photograph), kept))
    return judged


def judge_degraded(data: Path, wanted: set[tuple[str, str]]) -> dict[tuple[str, float], list[tuple[str, ...]]]:
    """The gate's words on each degradation and strength of the wanted photographs (source, file)."""
    random = np.random.default_rng(0)
    words: dict[tuple[str, float], list[tuple[str, ...]]] = {}
    for source in GOOD:
        for file, photograph in tqdm(read_all(data, source), desc=f"{source}, degraded", mininterval=2):
            if (source, file) not in wanted:
                continue
            field = circle.find(photograph)
            assert field is not None
            for name, strength, pixels in degraded(photograph, field, random):
                words.setdefault((name, strength), []).append(codes(pixels))
    return words


def judge_others(data: Path) -> tuple[dict[str, list[tuple[str, tuple[str, ...]]]], list[float]]:
    """The gate's words on other pictures, by group and name, and the red contrast of round ones of the setting half."""
    words: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    contrast = []
    for group, name, picture in tqdm(pictures(data), desc="other pictures", mininterval=2):
        words.setdefault(group, []).append((name, codes(picture)))
        if group.startswith("natural photograph, round") and fold_of(name, 2) == 0:
            contrast.append(measures(picture)["red_contrast"])
    return words, contrast


def seconds(data: Path, repeats: int = 5) -> dict[str, Any]:
    """Processor time that the gate takes for an untouched photograph of a camera, 12 megapixels."""
    photograph = np.asarray(Image.open(sorted((data / "idrid" / "original").glob("*.jpg"))[0]).convert("RGB"))
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        fundus_quality.assess(photograph)
        taken.append(time.process_time() - start)
    return {"pixels": list(photograph.shape[:2]), "median": round(float(np.median(taken)), 3), "repeats": repeats}


def figures(data: Path, sample: int) -> dict[str, Any]:
    """All figures; `sample` photographs of each good set are degraded."""
    judged = judge_photographs(data)
    good = [one for one in judged if one.source in GOOD and not one.bad]
    measured = [one for one in good if not one.setting]
    others, contrast = judge_others(data)
    rule = limits([one for one in good if one.setting], contrast)
    clean = {source: [one for one in measured if one.source == source and not one.codes] for source in GOOD}
    wanted = {(s, one.file) for s in GOOD for one in clean[s][:: max(1, len(clean[s]) // sample)][:sample]}
    worse = judge_degraded(data, wanted)
    bad = [one for one in judged if one.source == "EyePACS, natural" and one.bad]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "split": "patients in two halves by a hash of the name: limits set on one, figures from the other",
        "limits": {name: {"rule": value, "code": getattr(fundus_quality, name)} for name, value in rule.items()},
        "good": {
            source: {
                half: counted([one.codes for one in good if one.source == source and one.setting == setting])
                for half, setting in (("measured", False), ("setting", True))
            }
            for source in GOOD
        }
        | {"both": {"measured": counted([one.codes for one in measured])}},
        "good_refused": [[one.source, one.file, list(one.codes)] for one in good if one.codes],
        "equalised": counted([one.codes for one in judged if one.source == "EyePACS, equalised"]),
        "bad": {
            half: counted([one.codes for one in bad if one.setting == setting])
            for half, setting in (("measured", False), ("setting", True))
        },
        "bad_photographs": [
            {"file": one.file, "reason": one.bad, "setting": one.setting, "codes": list(one.codes)} for one in bad
        ],
        "degraded": [
            {
                "degradation": name,
                "strength": strength,
                **counted(words),
                "named": sum(bool(set(word) & set(DEGRADATIONS[name][2])) for word in words),
            }
            for (name, strength), words in worse.items()
        ],
        "others": {group: counted([word for _, word in words]) for group, words in others.items()},
        "others_passed": [[group, name] for group, words in others.items() for name, word in words if not word],
        "seconds": seconds(data),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.retina.quality", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--sample", type=int, default=25, help="photographs of each good set that are degraded")
    parser.add_argument("--result", type=Path, default=RESULT, help="JSON file to write; the page is put beside it")
    given = parser.parse_args(arguments)
    found = figures(shared_data(), given.sample)
    given.result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    given.result.with_suffix(".md").write_text(page(found), encoding="utf-8")
    for name, both in found["limits"].items():
        print(
            f"{name:20s} {both['code']:8g}"
            + ("" if both["code"] == both["rule"] else f"   the rule gives {both['rule']:g}")
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
