"""Parametric Map (PS3.3 A.75): the response map of a CT series as numbers, on the pixel grid of its slices.

The map is always that of the class which the model's default operating point counts (malignant), whatever was decided: one
object may hold several findings, and a number must mean the same in all of them, and in the objects of two patients. Values
are the signed, unnormalised responses, as in the npz of the HTTP interface. Every slice of the series has a frame; outside
the windows that the model looked at the value is 0. The quantity is Saliency (CID 217): the response is sent back through the
whole network to the pixels, where a class activation would stop at the last layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from service.records import ResultObject
from service.results import codes, common, planes
from service.results.report import Report

SALIENCY = Code("130404", "DCM", "Saliency")


def build(report: Report) -> ResultObject | None:
    """Make the object.

    Its pixels take 4 bytes each (126 MB for 120 slices of 512 x 512); about three times that is needed while it is made.

    Returns
    -------
    ResultObject or None
        None without maps, and for photographs: viewers cannot show one over an image without a place in the patient.
    """
    if not report.standing_maps or not planes.referable(report) or not planes.spatial(report):
        return None
    name = mapped(report)
    dataset = _described(report, name)
    dataset.Rows, dataset.Columns = report.instances[0].rows, report.instances[0].columns
    dataset.FloatPixelData = _values(report, name, planes.frame_sources(dataset, report)).tobytes()
    dataset.BodyPartExamined = planes.body_part(report)
    planes.describe_sources(dataset, report)
    return common.finish(dataset, report, "PM")


def mapped(report: Report) -> str:
    """Class whose responses the object holds."""
    return report.bundle.operating_point().score_classes[0]


def on_image(response: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice, np.ndarray]:
    """Bring a map to the pixel grid of its image: bilinear, between the centres of the map's pixels.

    Parameters
    ----------
    response : ndarray, shape (H, W)
    box : (x0, y0, x1, y1)
        Of the map, in pixels of the image, borders of pixels at whole numbers.
    size : (rows, columns)

    Returns
    -------
    rows, columns : slice
        Image pixels whose centres lie in the box.
    values : ndarray, float32
        Of these pixels. Between the outermost centres and the border of the map the outermost values hold.
    """
    height, width = response.shape
    x0, y0, x1, y1 = (float(edge) for edge in box)
    rows, i, v = _between(size[0], y0, y1, height)
    columns, j, u = _between(size[1], x0, x1, width)
    above, below = (response[np.minimum(i + k, height - 1)] for k in (0, 1))
    lines = above + (below - above) * v[:, None]
    left, right = (lines[:, np.minimum(j + k, width - 1)] for k in (0, 1))
    return rows, columns, np.asarray(left + (right - left) * u, np.float32)


def _between(pixels: int, start: float, end: float, cells: int) -> tuple[slice, np.ndarray, np.ndarray]:
    """Along one axis: image pixels with their centres in start..end, the map pixel before each, and the way to the next."""
    place = (np.arange(pixels) + 0.5 - start) * (cells / (end - start))
    kept = np.flatnonzero((place >= 0) & (place < cells))
    if not kept.size:
        return slice(0, 0), kept, np.zeros(0)
    inner = np.clip(place[kept] - 0.5, 0, cells - 1)
    before = np.floor(inner).astype(np.int64)
    return slice(int(kept[0]), int(kept[-1]) + 1), before, inner - before


def _windows(report: Report, name: str) -> Iterator[tuple[str, slice, slice, np.ndarray]]:
    """Every slice of every finding: key of its image, place in it, responses."""
    size = (report.instances[0].rows, report.instances[0].columns)
    for maps in report.standing_maps.values():
        chosen = maps.classes.index(name)
        for response, box, key in zip(maps.response[:, chosen], maps.box_px, maps.sources, strict=True):
            yield (key, *on_image(response, box, size))


def _values(report: Report, name: str, order: Sequence[int]) -> np.ndarray:
    """Responses of all slices in the order of the frames; where windows overlap, the larger magnitude holds."""
    values = np.zeros((len(order), report.instances[0].rows, report.instances[0].columns), "<f4")
    frame = {report.instances[at].key: number for number, at in enumerate(order)}
    for key, rows, columns, seen in _windows(report, name):
        there = values[frame[key], rows, columns]
        np.copyto(there, seen, where=np.abs(seen) > np.abs(there))
    return values


def _described(report: Report, name: str) -> Dataset:
    rule = next(iter(report.standing_maps.values()))
    extremes = [0.0] + [float(v) for *_, seen in _windows(report, name) if seen.size for v in (seen.min(), seen.max())]
    low, high = min(extremes), max(extremes)
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="HEATMAP",
        lut_explanation=common.line(f"Response of class {name}, rule {rule.rule}, start {rule.start}"),
        unit=codes.NO_UNITS,
        value_range=(low, high if high > low else low + 1),
        slope=1.0,
        intercept=0.0,
        quantity_definition=SALIENCY,
    )
    window = hd.VOILUTTransformation(window_center=rule.reference / 2, window_width=rule.reference)
    count = len(report.instances)
    described = hd.pm.ParametricMap(
        source_images=[planes.placeholder(report, at, (1, 1)) for at in range(count)],
        pixel_array=np.zeros((count, 1, 1), np.float32),
        series_instance_uid=common.series_uid(report, "PM"),
        series_number=1,
        sop_instance_uid=common.instance_uid(report, "PM"),
        instance_number=1,
        manufacturer=common.MANUFACTURER,
        manufacturer_model_name=common.model_name(report),
        software_versions=common.software_versions(report)[0],
        device_serial_number=common.serial_number(report),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[window],
        content_label="HEATMAP",
        content_description=common.line(f"Response of class {name}; 0 outside the windows looked at"),
    )
    return Dataset(described)
