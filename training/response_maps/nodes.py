"""Nodes and constants of an ONNX graph under construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

END = int(np.iinfo(np.int64).min)
"""Where a slice that runs backwards ends: before the first element."""


class Graph:
    """Nodes and constants; every call returns the name of what it made.

    Parameters
    ----------
    shared : bool
        Kernels stand once, in `kernels`, for all that use them; else each is a constant like any other.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shared = shared
        self.kernels: dict[str, np.ndarray] = {}
        """Shape (in / groups, out, k, k)."""
        self.made = 0
        self._backwards: dict[tuple[Any, ...], str] = {}

    def branch(self) -> None:
        """Begin the nodes of a branch."""
        self.nodes, self._backwards = [], {}

    @staticmethod
    def _kept(store: dict[str, np.ndarray], letter: str, array: np.ndarray) -> str:
        for name, known in store.items():
            if known.dtype == array.dtype and known.shape == array.shape and np.array_equal(known, array):
                return name
        name = f"{letter}{len(store)}"
        store[name] = array
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        return self._kept(self.constants, "c", np.array(value, dtype=dtype, order="C"))

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def kernel(self, weight: np.ndarray) -> str:
        """A convolution's kernel, shape (out, in / groups, k, k).

        A shared kernel reaches a branch through a node that ONNX Runtime computes once, when it opens the graph.
        """
        return self.add("Transpose", self._stored(weight), perm=[1, 0, 2, 3]) if self.shared else self.constant(weight)

    def _stored(self, weight: np.ndarray) -> str:
        return self._kept(self.kernels, "k", np.array(weight.swapaxes(0, 1), np.float32, order="C"))

    def kernel_back(self, weight: np.ndarray, groups: int, rows: range, columns: range) -> str:
        """The kernel for the way back through a convolution, shape (in, out / groups, k', k').

        `rows`, `columns`: the taps of `weight` that it has, in the order in which it has them (a way back needs them
        backwards).
        """
        out, inputs, size, _ = weight.shape
        apart, joined = (inputs, groups, out // groups, size, size), (inputs * groups, out // groups, size, size)
        if not self.shared:
            swapped = weight.swapaxes(0, 1).reshape(apart).swapaxes(0, 1).reshape(joined)
            return self.constant(swapped[:, :, list(rows)][:, :, :, list(columns)])
        stored = self._stored(weight)
        key = (stored, groups, rows, columns)
        if key not in self._backwards:
            name = stored
            if groups > 1:
                name = self.add("Transpose", self.add("Reshape", name, self.integers(*apart)), perm=[1, 0, 2, 3, 4])
                name = self.add("Reshape", name, self.integers(*joined))
            ends = [taps.stop if taps.stop >= 0 else END for taps in (rows, columns)]
            self._backwards[key] = self.add(
                "Slice",
                name,
                self.integers(rows.start, columns.start),
                self.integers(*ends),
                self.integers(2, 3),
                self.integers(rows.step, columns.step),
            )
        return self._backwards[key]

    def flipped(self, x: str, *axes: int) -> str:
        """Reverse the order of the elements of x along `axes`."""
        count = len(axes)
        last, end, step = self.integers(*[-1] * count), self.integers(*[END] * count), self.integers(*[-1] * count)
        return self.add("Slice", x, last, end, self.integers(*axes), step)

    def _next(self) -> int:
        self.made += 1
        return self.made

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator.lower()}_{self._next()}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        names = [f"{operator.lower()}_{self._next()}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def convolve(
        self, *inputs: str, kernel: Sequence[int], pads: Sequence[int], stride: int = 1, groups: int = 1
    ) -> str:
        """Convolve x; `inputs` are x, the kernel and, optional, the bias; `pads` at the top, left, bottom and right."""
        return self.add("Conv", *inputs, strides=[stride] * 2, pads=pads, kernel_shape=kernel, group=groups)
