"""All DICOM objects of one analysis, each referring to the others where it should."""

from __future__ import annotations

from collections.abc import Sequence

from service.records import ResultObject
from service.results.report import Report


def build(report: Report, kinds: Sequence[str], *, region_share: float = 0.5) -> tuple[ResultObject, ...]:
    """Make the wanted kinds of objects.

    Parameters
    ----------
    report : Report
    kinds : sequence of str
        Of SR, SEG, PM, SC, KOS; what an outcome has no use for is left out.
    region_share : float
        Share of its peak above which a response map counts as critical region, 0..1.

    Returns
    -------
    tuple of ResultObject
        The structured report first: it is the root that refers to all others. Empty for images that are no DICOM instances,
        since there is no patient and study to file objects under.
    """
    if any(instance.media != "dicom" for instance in report.instances):
        return ()
    # highdicom takes seconds to import, and a service that starts must answer soon.
    from service.results import kos, pm, sc, seg, sr

    made = {
        "SEG": seg.build(report, region_share) if "SEG" in kinds else None,
        "PM": pm.build(report) if "PM" in kinds else None,
        "SC": sc.build(report) if "SC" in kinds else None,
        "KOS": kos.build(report) if "KOS" in kinds else None,
    }
    others = [one for one in made.values() if one is not None]
    return (*((sr.build(report, others),) if "SR" in kinds else ()), *others)
