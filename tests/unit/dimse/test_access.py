from __future__ import annotations

import pytest

from service.dimse.access import Peers


@pytest.mark.parametrize(
    ("patterns", "title", "address", "expected"),
    [
        ((), "ANY", "127.0.0.1", True),
        ((), "ANY", "127.9.9.9", True),
        ((), "ANY", "::1", True),
        ((), "ANY", "::ffff:127.0.0.1", True),
        ((), "ANY", "192.0.2.1", False),
        (("CT1@192.0.2.0/24",), "CT1", "192.0.2.77", True),
        (("CT1@192.0.2.0/24",), "CT1", "192.0.3.77", False),
        (("CT1@192.0.2.0/24",), "CT2", "192.0.2.77", False),
        (("CT1@192.0.2.0/24",), "ct1", "192.0.2.77", False),
        (("CT1@192.0.2.0/24",), "CT1", "127.0.0.1", False),
        (("CT1@192.0.2.5",), "CT1", "::ffff:192.0.2.5", True),
        (("*@2001:db8::/32",), "X", "2001:db8::9", True),
        (("*@2001:db8::/32",), "X", "192.0.2.1", False),
        (("*@fe80::/10",), "X", "fe80::1%eth0", True),
        (("CT@1@*",), "CT@1", "203.0.113.4", True),
        (("*@*",), "X", "2001:db8::9", True),
        (("*@*",), "X", "nonsense", False),
        (("A@192.0.2.1", "B@192.0.2.2"), "B", "192.0.2.2", True),
        (("A@192.0.2.1", "B@192.0.2.2"), "A", "192.0.2.2", False),
    ],
)
def test_who_is_let_in(patterns: tuple[str, ...], title: str, address: str, expected: bool) -> None:
    assert Peers(patterns).allow(title, address) is expected


@pytest.mark.parametrize("pattern", ["CT1", "@192.0.2.1", "CT1@pacs.example", "CT1@192.0.2.0/33", "CT1@"])
def test_a_pattern_that_is_none_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        Peers([pattern])
