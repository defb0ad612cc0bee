"""Deterministic identifiers: the same input, weights and place give the same UID on every run.

All are of the form 2.25 + UUID as a decimal number (DICOM PS3.5 B.2), the UUID being version 5 (SHA-1 of a name, RFC 9562).
A re-run therefore makes the same objects and does not clutter an archive.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from service import __version__

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "pellucid.service")


def of(*parts: str) -> str:
    """UID of a sequence of texts; parts are length-prefixed, so no two different sequences share a name."""
    return f"2.25.{uuid.uuid5(NAMESPACE, ''.join(f'{len(part)}:{part}' for part in parts)).int}"


IMPLEMENTATION_CLASS_UID = of("implementation")
IMPLEMENTATION_VERSION = f"PELLUCID_{__version__}"[:16]
"""How we name ourselves in files (PS3.10 7.1) and associations (PS3.7 D.3.3.2)."""


def device(weights_sha256: str) -> str:
    """Device UID (0018,1002) of a model: changes whenever the weights change."""
    return of("device", weights_sha256)


def tracking(sources: Sequence[str], weights_sha256: str, place: str) -> str:
    """Tracking UID (0062,0021) of a finding.

    Parameters
    ----------
    sources : sequence of str
        SOP Instance UIDs the finding was made from, in any order.
    weights_sha256 : str
        Hash of the model's weights.
    place : str
        What tells two findings in the same images apart, e.g. the centre in mm.
    """
    return of("tracking", weights_sha256, place, *sorted(sources))
