"""How the plots of all experiments look and are written: the same bytes for the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def style(salt: str) -> dict[Any, Any]:
    """Settings for `matplotlib.rc_context`; `salt` makes the names inside an SVG the same in every run."""
    return {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }


def save(figure: Figure, path: Path, dpi: int = 75) -> Path:
    """Write a figure as SVG or PNG, without date and program; returns its path."""
    undated = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    figure.savefig(path, format=path.suffix[1:], dpi=dpi, metadata=undated)
    return path


def percent(value: float) -> str:
    """``99.26 %``."""
    return f"{100 * value:.2f} %"
