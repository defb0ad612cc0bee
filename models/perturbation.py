"""Which pixels give way when an image is changed patch by patch, in the order of a response map or in a random one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def by_response(response: np.ndarray, patch: int) -> np.ndarray:
    """Patches in falling order of their positive response.

    Only positive response counts, as in the pictures of a map and in its share inside a region: within a patch the signs of a
    gradient-like map would cancel. Equal patches come in a fixed random order, so that a map that is zero in many places does not
    run through the image row by row.

    Parameters
    ----------
    response : ndarray, shape (H, W)
        H and W are multiples of `patch`.
    patch : int
        Side of a patch, px.

    Returns
    -------
    ndarray, int, shape (H * W / patch ** 2,)
        Indices of the patches, row by row.
    """
    rows, columns = (side // patch for side in response.shape)
    strength = np.maximum(response, 0).astype(np.float64).reshape(rows, patch, columns, patch).sum(axis=(1, 3)).ravel()
    mixed = np.random.default_rng(0).permutation(len(strength))
    return np.asarray(mixed[np.argsort(-strength[mixed], kind="stable")])


def changed(order: np.ndarray, shape: tuple[int, int], patch: int, steps: int) -> Iterator[np.ndarray]:
    """Pixels that have changed after 0, 1, ... `steps` equal steps: bool, shape (H, W).

    Parameters
    ----------
    order : ndarray, int, shape (n,)
        Indices of patches, the first to change first; patches that it does not name never change.
    shape : (H, W)
        Multiples of `patch`.
    patch : int
        Side of a patch, px.
    steps : int
        After the last one all patches of `order` have changed.
    """
    rows, columns = (side // patch for side in shape)
    for step in range(steps + 1):
        patches = np.zeros(rows * columns, bool)
        patches[order[: round(len(order) * step / steps)]] = True
        yield patches.reshape(rows, columns).repeat(patch, axis=0).repeat(patch, axis=1)
