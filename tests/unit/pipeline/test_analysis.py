"""The path itself: archives, junk among the files, routing, cleaning up."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.errors import InputError, NotFound, UnknownMedia
from service.pipeline.analysis import Pipeline
from service.pipeline.request import InvalidRequest, parse
from service.pipeline.work import Work

WriteSeries = Callable[..., list[Path]]


def prepared(pipeline: Pipeline, files: list[Path], **request: Any) -> Work:
    with pipeline.prepare(files, parse(request)) as work:
        assert all(instance.path.is_file() for instance in work.instances)
        return work


@pytest.fixture
def archive(tmp_path: Path, write_series: WriteSeries) -> Path:
    path = tmp_path / "ct.zip"
    with zipfile.ZipFile(path, "w") as z:
        for file in write_series():
            z.write(file, f"deep/folder/{file.name}")
        z.writestr("README.txt", "hello")
    return path


def test_an_archive_and_its_files_are_the_same_input(pipeline: Pipeline, archive: Path, tmp_path: Path) -> None:
    one = prepared(pipeline, [archive])
    two = prepared(pipeline, sorted(tmp_path.glob("*.dcm")))
    assert sorted(i.sha256 for i in one.instances) == sorted(i.sha256 for i in two.instances)
    assert one.model == two.model == "sisc_lung"
    assert one.warnings == ("1 of 9 files are not images and were left out",) and two.warnings == ()


def test_expanded_files_are_deleted_also_after_an_error(pipeline: Pipeline, archive: Path) -> None:
    spool = pipeline.tools.sandbox._spool
    prepared(pipeline, [archive])
    with pytest.raises(InputError), pipeline.prepare([archive], parse({"model": "clear_dr"})):
        pass
    assert list(spool.iterdir()) == []


def test_names_of_files_do_not_matter(pipeline: Pipeline, tmp_path: Path, fundus: Image.Image) -> None:
    path = tmp_path / "looks-like.dcm"
    fundus.save(path, "PNG")
    assert prepared(pipeline, [path]).model == "clear_dr"


def test_a_file_sent_twice_counts_once(pipeline: Pipeline, write_series: WriteSeries) -> None:
    files = write_series()
    work = prepared(pipeline, [*files, files[0]])
    assert len(work.instances) == 8
    assert work.warnings == ("1 files were sent more than once; each was taken once",)


def test_a_single_file_is_told_what_is_wrong_with_it(pipeline: Pipeline, tmp_path: Path) -> None:
    text = tmp_path / "a.dcm"
    text.write_text("hello")
    with pytest.raises(UnknownMedia), pipeline.prepare([text], parse({})):
        pass
    empty = tmp_path / "b.dcm"
    empty.touch()
    with pytest.raises(InputError) as caught, pipeline.prepare([empty], parse({})):
        pass
    assert caught.value.status in (400, 415)
    with pytest.raises(UnknownMedia, match="no image among"), pipeline.prepare([text, empty], parse({})):
        pass


def test_a_name_is_checked_before_anything_is_read(pipeline: Pipeline, tmp_path: Path) -> None:
    gone = [tmp_path / "is-not-there"]
    with pytest.raises(NotFound, match="clear_dr, sisc_lung"), pipeline.prepare(gone, parse({"model": "nothing"})):
        pass
    with (
        pytest.raises(InvalidRequest, match="balanced, sensitivity_90"),
        pipeline.prepare(gone, parse({"model": "sisc_lung", "operating_point": "x"})),
    ):
        pass


def test_an_operating_point_is_checked_against_the_model_that_was_routed_to(
    pipeline: Pipeline, write_series: WriteSeries
) -> None:
    with (
        pytest.raises(InvalidRequest, match="sisc_lung has no such operating point"),
        pipeline.prepare(write_series(), parse({"operating_point": "mtmDR"})),
    ):
        pass


def test_stages_are_reported_and_timed(pipeline: Pipeline, write_series: WriteSeries) -> None:
    stages: list[str] = []
    with pipeline.prepare(write_series(), parse({"regions": [{"center_mm": [2.5, 5.0, 105.0]}]})) as work:
        timing = pipeline.run(work, stages.append).timing_ms
    assert stages == ["quality", "decode", "model", "maps"]
    assert all(timing[stage] > 0 for stage in stages)
    assert timing["total"] >= sum(timing[stage] for stage in stages)
