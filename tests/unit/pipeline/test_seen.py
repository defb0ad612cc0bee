"""The network's input of a stored finding, against the tensor that the engine was given in the analysis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import NotFound
from service.pipeline import seen
from service.pipeline.analysis import Pipeline
from service.records import Instance, Outcome, Region, Request

Ran = tuple[Outcome, list[np.ndarray], tuple[Instance, ...]]


def run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, files: list[Path], **request: Any) -> Ran:
    """The outcome, the tensor of every finding, and the images."""
    tensors: list[np.ndarray] = []
    asked = pipeline.tools.engine.run

    def watched(bundle: Any, batch: Any, outputs: Any) -> Any:
        tensors.append(np.array(batch))
        return asked(bundle, batch, outputs)

    monkeypatch.setattr(pipeline.tools.engine, "run", watched)
    with pipeline.prepare(files, Request(**request)) as work:
        return pipeline.run(work), tensors, work.instances


def check(pipeline: Pipeline, ran: Ran) -> None:
    outcome, tensors, instances = ran
    assert len(tensors) == len(outcome.findings) > 0
    for finding, tensor in zip(outcome.findings, tensors, strict=True):
        keys = seen.sources(finding.body)
        assert len(keys) == len(tensor)
        shuffled = instances[::-1]
        for at, expected in enumerate(tensor):
            found = seen.network_input(
                pipeline.tools.sandbox, pipeline.bundles[outcome.model], finding.body, shuffled, at
            )
            assert found.dtype == np.float32 and found.shape == expected.shape
            assert np.array_equal(found, expected)


def test_windows_of_a_series(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, write_series: Any) -> None:
    regions = (Region("a", center_mm=(2.5, 5.0, 103.0)), Region("b", center_mm=(0.3, 9.9, 101.7)))
    ran = run(pipeline, monkeypatch, write_series(), regions=regions, maps=())
    assert [len(tensor) for tensor in ran[1]] == [5, 4]  # the second lies 1.7 mm above the first slice
    check(pipeline, ran)


def test_windows_that_reach_beyond_the_image(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, write_series: Any
) -> None:
    uid = "1.2.4.4"
    regions = (Region("edge", sop_instance_uid=uid, center_px=(50.0, 45.0)),)
    ran = run(pipeline, monkeypatch, write_series(spacing=0.5), regions=regions)
    box = ran[0].findings[0].body["location"]["box_px"]
    assert box[1] < 0
    check(pipeline, ran)


def test_grey_crops_of_several_sizes(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng, files = np.random.default_rng(3), []
    for size in ((100, 100), (131, 96), (97, 120)):
        files.append(tmp_path / f"{size[0]}.png")
        Image.fromarray(rng.integers(0, 255, size, np.uint8)).save(files[-1])
    check(pipeline, run(pipeline, monkeypatch, files, model="sisc_lung", pixel_spacing_mm=0.61))


def test_a_photograph(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fundus: Image.Image) -> None:
    fundus.save(tmp_path / "eye.jpg", quality=95)
    check(pipeline, run(pipeline, monkeypatch, [tmp_path / "eye.jpg"]))


def test_images_that_are_gone_are_named(pipeline: Pipeline, tmp_path: Path, fundus: Image.Image) -> None:
    fundus.save(tmp_path / "eye.jpg")
    with pipeline.prepare([tmp_path / "eye.jpg"], Request()) as work:
        (finding,) = pipeline.run(work).findings
        tools = pipeline.tools
        bundle, gone = pipeline.bundles[work.model], replace(work.instances[0], path=tmp_path / "gone")
        with pytest.raises(NotFound, match="no longer stored"):
            seen.network_input(tools.sandbox, bundle, finding.body, [gone], 0)
        with pytest.raises(NotFound, match="no longer stored"):
            seen.network_input(tools.sandbox, bundle, finding.body, [], 0)


def test_images_by_key_in_the_order_asked_for(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, write_series: Any
) -> None:
    instances = pipeline.tools.sandbox.inspect(write_series(3))
    keys = [instance.key for instance in instances]
    assert [one.key for one in seen.images(instances, keys[::-1])] == keys[::-1]
