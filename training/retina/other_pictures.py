"""Pictures that are no photographs of the retina, many of them made to look like one: round, warm, on black."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pydicom
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_images

COLOUR_TABLES = ("jet", "hot", "copper", "viridis", "turbo", "inferno", "autumn", "afmhot", "gist_heat", "pink")
WINDOWS_HU = ((-1350.0, 150.0), (-160.0, 240.0))
"""Lung and soft tissue."""
SAMPLES = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry")
"""Colour photographs inside scikit-image; chelsea is a cat."""

Picture = tuple[str, str, np.ndarray]
"""Group, name, uint8 RGB."""


def masked(picture: np.ndarray) -> np.ndarray:
    """The largest round part of a picture on black, as a fundus camera's."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = picture[top : top + side, left : left + side].copy()
    offset = (np.arange(side) + 0.5) / side * 2 - 1
    square[offset[:, None] ** 2 + offset[None] ** 2 > 0.94**2] = 0
    return square


def _enlarged(image: np.ndarray, side: int = 256) -> np.ndarray:
    grey = image.astype(np.uint8)
    return np.asarray(Image.fromarray(grey).convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def ct(data: Path, every: int = 12) -> Iterator[Picture]:
    """Slices of the chest CT: grey, round, and in colour tables."""
    with zipfile.ZipFile(data / "dicom" / "ct_lungfcp_0001.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".dcm"))
        slices = [(name, pydicom.dcmread(io.BytesIO(archive.read(name)))) for name in names[every // 2 :: every]]
    for name, ds in slices:
        hounsfield = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        for low, high in WINDOWS_HU:
            value = np.clip((hounsfield - low) / (high - low), 0, 1)
            place = f"{Path(name).stem} {low:.0f}..{high:.0f} HU"
            grey = np.repeat((255 * value).astype(np.uint8)[:, :, None], 3, axis=2)
            yield "CT, grey", place, grey
            yield "CT, grey, round", place, masked(grey)
            for table in COLOUR_TABLES:
                coloured = (255 * matplotlib.colormaps[table](value)[:, :, :3]).astype(np.uint8)
                yield "CT, colour table", f"{table} {place}", coloured
                yield "CT, colour table, round", f"{table} {place}", masked(coloured)


def small(data: Path) -> Iterator[Picture]:
    """MedNIST (hand, chest x-ray and others) and MNIST, enlarged; every second one round."""
    with np.load(data / "mednist" / "mednist_2400.npz") as archive:
        for k, image in enumerate(archive["images"][::30]):
            picture = _enlarged(image)
            yield "MedNIST", str(30 * k), picture
            yield "MedNIST, round", str(30 * k), masked(picture)
    stored = gzip.decompress((data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    digits = np.frombuffer(stored, np.uint8, 784 * 40, 16)
    for k, digit in enumerate(digits.reshape(40, 28, 28)):
        yield "MNIST", str(k), _enlarged(digit)


def photographs() -> Iterator[Picture]:
    """Photographs of other things, as they are and round."""
    face = np.asarray(skimage.data.astronaut())
    pictures = [(name, np.asarray(getattr(skimage.data, name)())[:, :, :3]) for name in SAMPLES]
    pictures += zip(("china", "flower"), load_sample_images().images, strict=True)
    pictures += [("face", face[0:220, 110:330]), ("face, closer", face[60:170, 170:280].repeat(3, 0).repeat(3, 1))]
    for name, picture in pictures:
        yield "natural photograph", name, picture
        yield "natural photograph, round", name, masked(picture)
        for k, (top, left) in enumerate(((0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5))):
            height, width = picture.shape[0] // 2, picture.shape[1] // 2
            y, x = round(top * picture.shape[0]), round(left * picture.shape[1])
            part = masked(picture[y : y + height, x : x + width])
            yield "part of a natural photograph, round", f"{name}, quarter {k + 1}", part.repeat(2, 0).repeat(2, 1)


def made(seed: int = 0) -> Iterator[Picture]:
    """Noise, flat colours, and balls."""
    random = np.random.default_rng(seed)
    for k in range(5):
        noise = random.integers(0, 256, (400, 600, 3)).astype(np.uint8)
        yield "noise", str(k), noise
        yield "noise, round", str(k), masked(noise)
    offset = np.linspace(-1, 1, 500) / 0.85
    square = offset[:, None] ** 2 + offset[None] ** 2
    for name, colour in (("orange", (235, 120, 30)), ("red", (200, 40, 30)), ("skin", (220, 170, 140))):
        flat = np.full((500, 500, 3), colour, np.uint8)
        yield "flat colour", name, flat
        yield "flat colour, round", name, masked(flat)
        light = (0.25 + 0.75 * np.sqrt(np.clip(1 - square, 0, 1))) * (square < 1)
        peel = np.asarray(
            Image.fromarray(random.normal(0, 1, (60, 60)).astype(np.float32)).resize(
                (500, 500), Image.Resampling.BICUBIC
            )
        )
        for dimples in (0.0, 0.03, 0.06):
            ball = light[:, :, None] * (1 + dimples * peel[:, :, None]) * colour + random.normal(0, 3, (500, 500, 3))
            yield "ball", f"{name}, dimples {dimples}", np.clip(ball, 0, 255).astype(np.uint8)


def pictures(data: Path) -> Iterator[Picture]:
    """All of them."""
    yield from ct(data)
    yield from small(data)
    yield from photographs()
    yield from made()
