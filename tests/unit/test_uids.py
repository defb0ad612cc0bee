"""Deterministic UIDs, re-derived from RFC 9562 by hand."""

from __future__ import annotations

import hashlib
import uuid

from service import uids


def test_a_uid_is_2_25_and_a_name_based_uuid() -> None:
    digest = bytearray(hashlib.sha1(uids.NAMESPACE.bytes + b"6:device3:abc", usedforsecurity=False).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    assert uids.device("abc") == f"2.25.{int.from_bytes(digest, 'big')}"
    assert uuid.UUID(bytes=bytes(digest)).version == 5


def test_a_uid_fits_the_dicom_limit() -> None:
    assert all(len(uids.of(str(n))) <= 64 for n in range(200))


def test_the_order_of_the_sources_does_not_matter_and_all_else_does() -> None:
    one = uids.tracking(["1.2", "1.3"], "abc", "1,2,3")
    assert one == uids.tracking(["1.3", "1.2"], "abc", "1,2,3")
    assert (
        len(
            {
                one,
                uids.tracking(["1.2"], "abc", "1,2,3"),
                uids.tracking(["1.2", "1.3"], "abd", "1,2,3"),
                uids.tracking(["1.2", "1.3"], "abc", "1,2,4"),
            }
        )
        == 4
    )
    assert uids.of("a", "bc") != uids.of("ab", "c")
