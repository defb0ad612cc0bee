"""SimpleITK's filters on arrays: axes (plane, row, column), one step in all directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK

_itk: Any = SimpleITK  # has no type information


def labels(mask: np.ndarray) -> np.ndarray:
    """Face-connected pieces of a mask in two or three dimensions, numbered from 1."""
    return np.asarray(_itk.GetArrayFromImage(_itk.ConnectedComponent(_image(mask))))


def large_labels(mask: np.ndarray, least: int) -> np.ndarray:
    """Pieces of at least that many voxels, numbered from the largest."""
    return np.asarray(_itk.GetArrayFromImage(_itk.RelabelComponent(_itk.ConnectedComponent(_image(mask)), least)))


def distance(inside: np.ndarray, step_mm: float) -> np.ndarray:
    """Distance in mm of every voxel inside a mask to the nearest one outside, float32; the array's border is not outside."""
    if inside.all() or not inside.any():
        return np.where(inside, np.float32(1e6), np.float32(0))
    found = _itk.SignedMaurerDistanceMap(_image(~inside), insideIsPositive=False, squaredDistance=False)
    result = np.maximum(_itk.GetArrayViewFromImage(found), 0)
    result *= np.float32(step_mm)
    return np.asarray(result)


def dilated(mask: np.ndarray, voxels: int) -> np.ndarray:
    """A mask grown by a ball."""
    return np.asarray(_itk.GetArrayFromImage(_itk.BinaryDilate(_image(mask), [voxels] * 3, _itk.sitkBall)) > 0)


def filled(mask: np.ndarray) -> np.ndarray:
    """A mask (planes, rows, columns) whose holes are filled, plane by plane."""
    return np.stack([_itk.GetArrayFromImage(_itk.BinaryFillhole(_image(plane))) > 0 for plane in mask])


def smoothed(array: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian with sigma in voxels."""
    return np.asarray(_itk.GetArrayFromImage(_itk.SmoothingRecursiveGaussian(_itk.GetImageFromArray(array), sigma)))


def halved(array: np.ndarray) -> np.ndarray:
    """Mean of every 2 x 2 x 2 voxels, float32; an odd last plane, row or column is dropped."""
    planes, rows, columns = (size // 2 for size in array.shape)
    result = np.empty((planes, rows, columns), np.float32)
    for k in range(planes):
        pair = array[2 * k : 2 * k + 2, : 2 * rows, : 2 * columns].astype(np.float32).sum(axis=0)
        lines = pair[0::2] + pair[1::2]
        result[k] = (lines[:, 0::2] + lines[:, 1::2]) / 8
    return result


def doubled(mask: np.ndarray) -> np.ndarray:
    """The same mask on a grid of half the step, its stairs smoothed."""
    image = _itk.GetImageFromArray(mask.astype(np.float32))
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((0.5, 0.5, 0.5))  # centre of the first 2 x 2 x 2 block
    size = [2 * n for n in mask.shape[::-1]]
    smooth = _itk.DiscreteGaussian(image, [2.0] * 3)
    fine = _itk.Resample(smooth, size, _itk.Transform(), _itk.sitkLinear, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return np.asarray(_itk.GetArrayViewFromImage(fine) > 0.5)


def _image(mask: np.ndarray) -> Any:
    return _itk.GetImageFromArray(mask.astype(np.uint8))
