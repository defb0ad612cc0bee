"""``python -m service.conformance DOCS``: write the statements, and the generated tables of the other documents."""

from __future__ import annotations

import sys
from pathlib import Path

from service.conformance.guide import write

if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
