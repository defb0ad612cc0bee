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
        """Shape (in, out, k, k)."""
        self.made = 0

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

    def kernel(self, weight: np.ndarray, *, back: bool = False) -> str:
        """A convolution's kernel, shape (out, in, k, k); `back`: flipped and swapped, for the way back through it.

        A shared kernel reaches a branch through a node that ONNX Runtime computes once, when it opens the graph.
        """
        swapped = weight.swapaxes(0, 1)
        if not self.shared:
            return self.constant(swapped[:, :, ::-1, ::-1] if back else weight)
        name = self._kept(self.kernels, "k", np.array(swapped, np.float32, order="C"))
        return self.flipped(name, 2, 3) if back else self.add("Transpose", name, perm=[1, 0, 2, 3])

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

    def convolve(self, inputs: Sequence[str], size: int, *, stride: int = 1, padding: int) -> str:
        """Convolve x with a square kernel; `inputs` are x, the kernel and, optional, the bias."""
        return self.add("Conv", *inputs, strides=[stride] * 2, pads=[padding] * 4, kernel_shape=[size] * 2)
