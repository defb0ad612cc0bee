"""Who may open an association: patterns ``AE@ADDRESS`` over calling AE titles and the addresses they come from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ANYWHERE: tuple[_Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_LOOPBACK: tuple[_Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Peers:
    """The peers that may send.

    Parameters
    ----------
    patterns : sequence of str
        ``AE@ADDRESS``; the AE title may be ``*``, the address ``*``, an address, or a network (192.0.2.0/24, 2001:db8::/32).
        None at all: any AE title from this computer.

    Raises
    ------
    ValueError
        For an address that is none; the message names the pattern.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules: list[tuple[str, tuple[_Network, ...]]] = [] if patterns else [("*", _LOOPBACK)]
        for pattern in patterns:
            title, _, address = pattern.rpartition("@")
            if not title:
                raise ValueError(f"{pattern!r} is not AE@ADDRESS")
            try:
                networks = _ANYWHERE if address == "*" else (ipaddress.ip_network(address, strict=False),)
            except ValueError:
                raise ValueError(f"{address!r} in {pattern!r} is no address and no network") from None
            self._rules.append((title, networks))

    def allow(self, title: str, address: str) -> bool:
        """Whether an association from this AE title and IP address is accepted. Case matters (PS3.5 6.2, VR AE)."""
        try:
            place = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(place, "ipv4_mapped", None)
        place = mapped if mapped is not None else place
        return any(
            rule in ("*", title) and any(place.version == network.version and place in network for network in networks)
            for rule, networks in self._rules
        )
