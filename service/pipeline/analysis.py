"""The path itself: `prepare` what was sent (fast; its errors are the sender's), later `run` it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from models.bundle import Bundle
from service.errors import OutOfContract, UnknownMedia
from service.inference import routing
from service.intake import media
from service.pipeline import crops, lung, regions, retina
from service.pipeline.request import invalid
from service.pipeline.work import Case, Tools, Watch, Work
from service.records import Instance, Outcome, Request


class Pipeline:
    """Turns files and a request into an outcome; thread-safe, stores nothing."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    @property
    def bundles(self) -> dict[str, Bundle]:
        return self.tools.engine.bundles

    @contextmanager
    def prepare(self, files: Sequence[Path], request: Request) -> Iterator[Work]:
        """Expand archives, read headers, choose the model and check the request against both.

        Parameters
        ----------
        files : sequence of Path
            What was sent; names do not matter, contents do.
        request : Request

        Yields
        ------
        Work
            Its instances lie at `files` or, out of an archive, in the sandbox's spool; the latter are deleted at the end.

        Raises
        ------
        InputError
            Of the kind that says what is wrong (see service.errors).
        """
        if request.model is not None:
            _check_point(routing.named(self.bundles, request.model), request)
        expanded: list[Path] = []
        try:
            loose: list[Path] = []
            for file in files:
                if media.is_archive(file):
                    expanded.extend(members := self.tools.sandbox.expand(file))
                    loose.extend(members)
                else:
                    loose.append(file)
            yield self._work(loose, request)
        finally:
            for folder in {file.parent for file in expanded}:
                shutil.rmtree(folder, ignore_errors=True)

    def _work(self, files: Sequence[Path], request: Request) -> Work:
        instances, warnings = self._instances(files)
        return self.work(instances, request, warnings)

    def work(self, instances: Sequence[Instance], request: Request, warnings: Sequence[str] = ()) -> Work:
        """Choose the model for inspected instances and check the request against both; errors as in `prepare`.

        Reports, segmentations and structure sets among them say where the nodules are, unless the request does.
        """
        warnings = list(warnings)
        ours = [instance for instance in instances if regions.own(instance)]
        if ours:
            instances = [instance for instance in instances if instance not in ours]
            warnings.append(f"{len(ours)} instances are results of this software and were left out")
        if not instances:
            raise OutOfContract("what was sent are results of this software; send the images themselves")
        bundle, taken = routing.route(self.bundles, instances, request.model)
        _check_point(bundle, request)
        others = [instance for instance in instances if instance not in taken]
        if bundle.task == routing.NODULE and any(instance.media == "photograph" for instance in taken):
            chosen, more = crops.prepare(taken, request, bundle)
        elif bundle.task == routing.NODULE:
            places = [instance for instance in others if regions.names_places(instance)]
            others = [instance for instance in others if instance not in places]
            if places and not request.regions:
                found, notes = regions.named(self.tools.sandbox, places, taken)
                request, warnings = replace(request, regions=found), [*warnings, *notes]
            chosen, more = lung.prepare(taken, request)
        else:
            chosen, more = retina.prepare(taken, request)
        if others:
            warnings.append(
                f"{len(others)} of {len(instances)} instances are not what model {bundle.name} takes and were left out"
            )
        return Work(bundle.name, tuple(chosen), request, (*warnings, *more))

    def _instances(self, files: Sequence[Path]) -> tuple[list[Instance], list[str]]:
        """Headers of all images among the files; what is no image is left out when there are others."""
        known = [file for file in files if _recognised(file)]
        if not known:
            if len(files) == 1:  # the sandbox says what is wrong with it
                return self.tools.sandbox.inspect(files), []
            raise UnknownMedia(
                "there is no image among what was sent: send DICOM instances, PNG, JPEG or TIFF files, or a ZIP of these"
            )
        warnings = []
        if len(known) < len(files):
            warnings.append(f"{len(files) - len(known)} of {len(files)} files are not images and were left out")
        unique = {instance.sha256: instance for instance in self.tools.sandbox.inspect(known)}
        if len(unique) < len(known):
            warnings.append(f"{len(known) - len(unique)} files were sent more than once; each was taken once")
        return list(unique.values()), warnings

    def run(self, work: Work, report: Callable[[str], None] | None = None) -> Outcome:
        """Answer for prepared work.

        Parameters
        ----------
        work : Work
            Its instances' files must still be there.
        report : callable, optional
            Told the name of each stage when it begins.

        Raises
        ------
        InputError
            When the pixels cannot be read or do not fit.
        """
        begin = time.monotonic()
        watch = Watch(report) if report else Watch()
        case = Case(work, routing.named(self.bundles, work.model), self.tools, watch)
        if case.bundle.task == routing.RETINA:
            outcome = retina.run(case)
        else:
            outcome = crops.run(case) if work.instances[0].media == "photograph" else lung.run(case)
        watch.ms["total"] = (time.monotonic() - begin) * 1000
        return replace(outcome, timing_ms=dict(watch.ms))


def _check_point(bundle: Bundle, request: Request) -> None:
    """Refuse an operating point that the bundle does not have."""
    known = [point.name for point in bundle.operating_points]
    if request.operating_point is not None and request.operating_point not in known:
        raise invalid("operating_point", f"model {bundle.name} has no such operating point; it has {', '.join(known)}")


def _recognised(file: Path) -> bool:
    with file.open("rb") as stream:
        return media.recognise(stream.read(media.HEAD_BYTES)) not in (None, "zip")
