"""Small response maps whose every number can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from service.records import ResponseMap

RESPONSE = np.array(
    [
        [[4, -1, 0], [1, -2, 2]],
        [[2, -3, 0], [3, -1, 2]],
        [[-8, -5, -1], [0, -4, 1]],
    ],
    np.float32,
)
"""Three classes, 2 x 3 pixels. Dominant: 0, none, none / 1, none, 0 (a tie)."""


@pytest.fixture
def response() -> np.ndarray:
    return RESPONSE.copy()


@pytest.fixture
def make() -> Callable[..., ResponseMap]:
    """Build a ResponseMap of given responses (S, N, H, W); the background is black unless given."""

    def build(response: np.ndarray, background: np.ndarray | None = None, **given: object) -> ResponseMap:
        slices, classes, height, width = response.shape
        fields: dict[str, object] = {
            "response": response.astype(np.float32),
            "background": np.zeros((slices, height, width), np.uint8) if background is None else background,
            "classes": tuple("abcdefghijklmnopqrstuvwxyz"[:classes]),
            "box_px": np.tile([10.5, -2.0, 34.5, 22.0], (slices, 1)),
            "sources": tuple(f"2.25.{k + 1}" for k in range(slices)),
            "probabilities": np.arange(1, classes + 1) / np.arange(1, classes + 1).sum(),
            "rule": "guided",
            "start": "contrast",
            "reference": 2.0,
            "peak_slice": slices // 2,
        }
        return ResponseMap(**(fields | given))  # type: ignore[arg-type]

    return build
