"""One attempt at one destination, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence

from service.delivery import callback, cstore, stow
from service.delivery.attempt import Notice, Outcome, Outgoing
from service.delivery.destinations import Callback, Destination, Dicom, Stow


def send(destination: Destination, delivery: Sequence[Outgoing] | Notice) -> tuple[Outcome, ...]:
    """Send objects, or a notice, once: one outcome each.

    Destinations come from the administrator's settings only, so any address is allowed here.

    Parameters
    ----------
    destination : Destination
    delivery : sequence of Outgoing, or Notice
        A notice for a callback, objects for the others.

    Raises
    ------
    TypeError
        When the delivery is not of the destination's kind: an error of the caller.
    """
    match destination, delivery:
        case Callback(), Notice():
            return (callback.send(destination, delivery),)
        case Dicom(), Sequence():
            return cstore.send(destination, delivery)
        case Stow(), Sequence():
            return stow.send(destination, delivery)
    raise TypeError(f"destination {destination.name}: a {destination.kind} does not take a {type(delivery).__name__}")
