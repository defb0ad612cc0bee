"""Limits of what is accepted; every number is a setting and carries its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one input may cost. Sizes are checked by arithmetic before anything is decoded."""

    file_bytes: int = 1 << 30
    """Largest single file, also inside a ZIP."""
    zip_members: int = 4096
    zip_ratio: int = 200
    """Largest inflated / compressed size of a member beyond 16 MiB, and of an archive beyond 64 MiB."""
    expanded_bytes: int = 2 << 30
    """Largest inflated size of a whole ZIP, and of all frames of one DICOM instance."""
    pixels: int = 64_000_000
    """Largest rows x columns of a photograph."""
    slice_pixels: int = 1 << 24
    """Largest rows x columns of a slice or a grey image, which are handed over as 4 bytes a pixel."""
    frame_bytes: int = 96 << 20
    """Largest decoded frame of a DICOM instance."""
    inflated_bytes: int = 128 << 20
    """Largest inflated data set in the deflated transfer syntax."""
    header_bytes: int = 16 << 20
    """Largest metadata element or metadata block before the pixels."""
    bulk_bytes: int = 256 << 20
    """Largest single value that is handed over as it is: native pixels of all frames, an encapsulated document."""
    child_memory_bytes: int = 512 << 20
    """Private memory of one child process (RLIMIT_DATA); about 75 MiB of it are Python, numpy and the decoders."""
    seconds: float = 20.0
    """Wall clock of one header or one decoded image."""
    expand_seconds: float = 120.0
    """Wall clock of one ZIP, or of one instance that is transcoded or searched for places."""
    start_seconds: float = 60.0
