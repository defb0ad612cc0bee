"""How far readers agree with a model: counts of verdicts, shares with their intervals, by period and by decision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

VERDICTS = ("accepted", "modified", "rejected")
Period = Literal["day", "week", "month"]
Z_95 = 1.959963984540054
"""Quantile 0.975 of the normal distribution."""


@dataclass(frozen=True)
class Tally:
    """Counts of verdicts, and the share of the accepted ones with its 95 % interval."""

    accepted: int = 0
    modified: int = 0
    rejected: int = 0

    @property
    def n(self) -> int:
        return self.accepted + self.modified + self.rejected

    @property
    def agreement(self) -> float | None:
        """Share of accepted ones; None without a verdict."""
        return self.accepted / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval of `agreement`; None without a verdict."""
        return wilson(self.accepted, self.n) if self.n else None


@dataclass(frozen=True)
class ModelAgreement:
    """Readers' agreement with one version of a model."""

    name: str
    version: str | None
    whole: Tally
    periods: Mapping[date, Tally]
    """By the first day of the period, in order; periods without verdicts are left out."""
    by_decision: Mapping[str, Tally]
    corrections: Mapping[tuple[str | None, str | None], int]
    """(answered, corrected) of modified findings, the most frequent first."""


@dataclass(frozen=True)
class Counted:
    """`n` verdicts of one day that are the same."""

    model: str
    version: str | None
    day: str
    verdict: str
    decision: str | None
    answered: str | None
    value: str | None
    n: int


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927, J Am Stat Assoc 22:209-212), for n > 0."""
    share, z2 = successes / n, Z_95 * Z_95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half  # exact there; rounding would leave a trace
    high = 1.0 if successes == n else centre + half
    return low, high


def start_of(by: Period, day: date) -> date:
    """First day of the period with this day; weeks begin on Monday (ISO 8601)."""
    if by == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if by == "month" else day


def of_models(by: Period, counted: Sequence[Counted]) -> list[ModelAgreement]:
    """Add up what was counted, by model and version in the order in which they come."""
    answers = dict.fromkeys((one.model, one.version) for one in counted)
    return [_of_model(by, *who, [one for one in counted if (one.model, one.version) == who]) for who in answers]


def _of_model(by: Period, name: str, version: str | None, counted: Sequence[Counted]) -> ModelAgreement:
    periods: dict[date, list[Counted]] = {}
    corrections: dict[tuple[str | None, str | None], int] = {}
    for one in counted:
        periods.setdefault(start_of(by, date.fromisoformat(one.day)), []).append(one)
        if one.verdict == "modified":
            change = (one.answered, one.value)
            corrections[change] = corrections.get(change, 0) + one.n
    return ModelAgreement(
        name,
        version,
        _tally(counted),
        {start: _tally(periods[start]) for start in sorted(periods)},
        {d: _tally([one for one in counted if one.decision == d]) for d in ("positive", "negative")},
        dict(sorted(corrections.items(), key=lambda item: (-item[1], str(item[0])))),
    )


def _tally(counted: Sequence[Counted]) -> Tally:
    return Tally(**{verdict: sum(one.n for one in counted if one.verdict == verdict) for verdict in VERDICTS})
