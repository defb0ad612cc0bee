"""The command ``pellucid``: serve, analyze, models, demo, config. Exit codes: 0 done, 1 failed, 2 usage.

Everything heavy is imported by the command that needs it, so that ``--help`` is there at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import __version__, memory
from service.config import ConfigError, Effective, Settings, check_access, load

if TYPE_CHECKING:
    from models.bundle import Bundle
    from service.records import Outcome, ResultObject

DONE, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = _joined(list(sys.argv[1:] if arguments is None else arguments))
    parser = _parser()
    try:
        asked = parser.parse_args(given)
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else USAGE
    try:
        return int(asked.run(asked))
    except ConfigError as error:
        return _say(error, USAGE)
    except KeyboardInterrupt:
        return _say("interrupted", FAILED)
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _say(error: object, code: int) -> int:
    print(f"pellucid: {error}", file=sys.stderr)
    return code


def _joined(arguments: list[str]) -> list[str]:
    """Bind ``--center-mm`` to its value: argparse would take a value like -12,3,4 for an option."""
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] == "--center-mm":
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pellucid", description="Predictions with response maps for chest CT nodules and fundus photographs."
    )
    parser.add_argument("--version", action="version", version=f"pellucid {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, text: str, run: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def settings_flags(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")

    serve = command("serve", "Run the service: HTTP interface and viewer.", _serve)
    for target in (serve, command("config", "Print the effective settings and where each comes from.", _config)):
        target.add_argument("--host", help="address to listen on (default 127.0.0.1)")
        target.add_argument("--port", help="port to listen on (default 8080)")
        target.add_argument("--dicom-port", metavar="PORT", help="port of the DICOM listener (default 11112)")
        target.add_argument("--data-dir", metavar="DIR", help="folder of the database, the images and the results")
        settings_flags(target)

    analyze = command("analyze", "Analyse files without a server.", _analyze)
    analyze.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="DICOM files, photographs, a ZIP, or folders of these"
    )
    analyze.add_argument("--model", help="name of the model (default: by content)")
    analyze.add_argument(
        "--center-mm", action="append", metavar="X,Y,Z", help="centre of a nodule in patient mm; may be repeated"
    )
    analyze.add_argument("--laterality", choices=("R", "L"), help="eye of a photograph")
    analyze.add_argument("--out", type=Path, metavar="DIR", help="write analysis.json and the maps here")
    analyze.add_argument("--json", action="store_true", help="print the whole analysis as JSON")
    settings_flags(analyze)

    models = command("models", "List, verify or describe the model bundles.", None)
    actions = models.add_subparsers(metavar="ACTION", required=True)
    for name, text, run in (
        ("list", "Name, version and hash of every model.", _list),
        ("verify", "Check schema, hashes and operating points.", _verify),
    ):
        sub = actions.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        settings_flags(sub)
    card = actions.add_parser("card", help="Print a model's card.", description="Print a model's card.")
    card.add_argument("name", metavar="NAME")
    card.set_defaults(run=_card)
    settings_flags(card)

    destinations = command("destinations", "List where results are sent, and try the DICOM ones.", _destinations)
    destinations.add_argument("--echo", action="store_true", help="send each DICOM destination a C-ECHO")
    settings_flags(destinations)

    demo = command("demo", "Write a synthetic chest CT and a synthetic fundus photograph to try things with.", _demo)
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("pellucid-demo"),
        metavar="DIR",
        help="folder to write to (default pellucid-demo)",
    )
    return parser


def _effective(asked: argparse.Namespace) -> Effective:
    flags = {
        name: value
        for name in ("host", "port", "dicom_port", "data_dir")
        if (value := getattr(asked, name, None)) is not None
    }
    return load(flags, config=asked.config)


def _config(asked: argparse.Namespace) -> int:
    print("\n".join(_effective(asked).lines()))
    return DONE


# -- serve ----------------------------------------------------------------------------------------------------------------


def _serve(asked: argparse.Namespace) -> int:
    import logging
    import tempfile

    settings = _effective(asked).settings
    check_access(settings)
    memory.settle()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for name in ("highdicom", "pynetdicom", "dbos"):  # they tell what is in the files, or every poll
        logging.getLogger(name).setLevel(logging.ERROR)
    from models.bundle import BundleError
    from service.dimse.listener import Listener
    from service.http import create_app, server
    from service.inference.engine import EngineError
    from service.pipeline.assembly import limits, open_service
    from service.store.analyses import StoreError
    from service.store.database import DatabaseError

    try:
        service = open_service(settings)
    except (BundleError, EngineError, StoreError, DatabaseError) as error:
        return _say(error, FAILED)
    tempfile.tempdir = str(service.spool)  # large request bodies wait here, not in a small /tmp
    app = create_app(settings, service)
    try:
        listening = server.listen(app, settings)
    except OSError as error:
        service.close()
        return _say(f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); set another port", FAILED)
    listener = Listener(settings, service.inbox, limits(settings))
    try:
        listener.start()
    except (ConfigError, OSError) as error:
        service.close()
        why = (
            error
            if isinstance(error, ConfigError)
            else f"cannot listen there ({error.strerror}); set another dicom_port"
        )
        return _say(f"DICOM listener, {settings.host}:{settings.dicom_port}: {why}", FAILED)
    if settings.dicom_processes:
        service.attach(listener)
    print(_greeting(settings, server.port_of(listening), listener.port, service.tools.engine), flush=True)
    if not server.run(listening, app):
        sys.stderr.flush()
        os._exit(DONE)  # an analysis that did not end in time is queued again; its thread must not hold the process
    return DONE


def _greeting(settings: Settings, port: int, dicom_port: int, engine: Any) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{host}:{port}"
    rows = [
        f"Pellucid {__version__} is ready. Research use only.",
        f"  viewer     {base}/viewer/",
        f"  interface  {base}/docs   (for programs: {base}/openapi.json)",
        f"  analyses   {base}/api/v1/analyses",
        f"  DICOM      {settings.ae_title}@{settings.host}:{dicom_port}" if dicom_port else "  DICOM      no listener",
        f"  DICOMweb   {base}/dicomweb",
        f"  data       {settings.data_dir.resolve()}",
        f"  access     {'with a token' if settings.tokens else 'this computer only'}",
    ]
    for bundle in engine.bundles.values():
        rows.append(
            f"  model      {bundle.name} {bundle.version}, sha256 {bundle.sha256[:12]}, on {engine.provider(bundle.name)}"
        )
    return "\n".join(rows)


# -- analyze --------------------------------------------------------------------------------------------------------------


def _analyze(asked: argparse.Namespace) -> int:
    import tempfile
    from dataclasses import replace

    from models.bundle import BundleError
    from service.errors import InputError
    from service.inference.engine import EngineError
    from service.pipeline import body, laterality
    from service.pipeline.analysis import Pipeline
    from service.pipeline.assembly import open_objects, open_tools
    from service.pipeline.request import parse
    from service.pipeline.work import STAGES

    missing = [str(path) for path in asked.paths if not path.exists()]
    if missing:
        return _say(f"there is no file {missing[0]}", USAGE)
    files = [
        file
        for path in asked.paths
        for file in ([path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()))
    ]
    settings = _effective(asked).settings
    from tqdm import tqdm

    with (
        tempfile.TemporaryDirectory(prefix="pellucid-") as spool,
        tqdm(total=len(STAGES), disable=None, leave=False, file=sys.stderr, bar_format="{l_bar}{bar}| {desc}") as bar,
    ):

        def report(stage: str) -> None:
            bar.set_description_str(stage)
            bar.n = STAGES.index(stage)
            bar.refresh()

        try:
            request = replace(parse(_request(asked)), named_eye=laterality.named(file.name for file in files))
            bar.set_description_str("loading models")
            tools = open_tools(settings, Path(spool))
            try:
                pipeline = Pipeline(tools)
                bar.set_description_str("reading files")
                with pipeline.prepare(files, request) as work:
                    outcome = pipeline.run(work, report)
                    bundle = pipeline.bundles[outcome.model]
                    result = body.result(outcome, bundle, work.warnings)
                    report("objects")
                    made, result["objects"], more = open_objects(settings, tools).make(work, outcome, result, bundle)
                    result["warnings"] += more
            finally:
                tools.sandbox.close()
        except (InputError, BundleError, EngineError) as error:
            bar.close()
            return _say(error, FAILED)
    if asked.out is not None:
        _write(asked.out, outcome, result, bundle, made)
    print(json.dumps(result, indent=2) if asked.json else _summary(result))
    if asked.out is not None:
        print(f"written to {asked.out}", file=sys.stderr)
    return DONE


def _request(asked: argparse.Namespace) -> dict[str, Any]:
    """The flags as the request of the HTTP contract."""
    regions = []
    for text in asked.center_mm or []:
        try:
            regions.append({"center_mm": [float(part) for part in text.split(",")]})
        except ValueError:
            raise ConfigError(f"--center-mm {text}: must be three numbers, e.g. -60.5,12,-180") from None
    return {"model": asked.model, "laterality": asked.laterality, "regions": regions}


def _write(
    folder: Path, outcome: Outcome, result: dict[str, Any], bundle: Bundle, made: Sequence[ResultObject]
) -> None:
    """``analysis.json``; where it says, for every map a picture with legend and its arrays, and the DICOM objects."""
    from service.maps import arrays, render

    labels = [str(entry["label"]) for entry in bundle.description["classes"]]
    folder.mkdir(parents=True, exist_ok=True)
    for finding in outcome.findings:
        if finding.maps is None:
            continue
        for kind, place in finding.body["evidence"]["maps"].items():
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            overlay = 0.5 if kind == "clear" else None
            target.write_bytes(
                render.png(
                    finding.maps,
                    kind,
                    bundle.colors,
                    labels,
                    overlay=overlay,
                    scale="per_image",
                    legend=True,
                    slice_index=None,
                )
            )
            target.with_suffix(".npz").write_bytes(arrays.npz(finding.maps, kind))
    for one, described in zip(made, result["objects"], strict=True):
        described["href"] += ".dcm"
        (folder / described["href"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / described["href"]).write_bytes(one.data)
    (folder / "analysis.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _summary(result: dict[str, Any]) -> str:
    """The result in a few lines."""
    model = result["model"]
    rows = [f"{result['outcome']} ({model['name']} {model['version']})"]
    for finding in result["findings"]:
        shares = ", ".join(f"{name} {p:.3f}" for name, p in finding["probabilities"].items())
        point = finding["operating_point"]
        decided = f"{point['decision']} at {point['name']} (threshold {point['threshold']:.3f})"
        rows.append(f"  {finding['id']}: {finding['label']}; {shares}; {decided}")
    rows.extend(
        f"  {reason['message']} {reason['retake']}"
        for reason in result["quality"]["reasons"]
        if not result["quality"]["gradable"]
    )
    rows.extend(f"  note: {warning}" for warning in result["warnings"])
    return "\n".join([*rows, result["disclaimer"]])


# -- models, demo ---------------------------------------------------------------------------------------------------------


def _list(asked: argparse.Namespace) -> int:
    from models import bundle as bundles

    for folder in bundles.folders(_effective(asked).settings.models_dir):
        try:
            found = bundles.load(folder)
        except bundles.BundleError as error:
            return _say(error, FAILED)
        print(f"{found.name}\t{found.version}\t{found.sha256[:12]}\t{found.description['title']}")
    return DONE


def _verify(asked: argparse.Namespace) -> int:
    """Check every bundle, as the service does at its start, and say what is wrong with each."""
    from models import bundle as bundles

    found = bundles.folders(_effective(asked).settings.models_dir)
    if not found:
        return _say("the models folder holds no model bundle", FAILED)
    code = DONE
    for folder in found:
        try:
            print(f"{bundles.load(folder).name}: good")
        except bundles.BundleError as error:
            code = _say(error, FAILED)
    return code


def _card(asked: argparse.Namespace) -> int:
    from models import bundle as bundles

    known = {folder.name: folder for folder in bundles.folders(_effective(asked).settings.models_dir)}
    if asked.name not in known:
        return _say(f"there is no model {asked.name}; there are: {', '.join(known) or 'none'}", FAILED)
    print((known[asked.name] / "CARD.md").read_text(encoding="utf-8"), end="")
    return DONE


def _destinations(asked: argparse.Namespace) -> int:
    """One line a destination; with ``--echo`` whether it answers."""
    from service.delivery import cstore
    from service.delivery.attempt import Sent
    from service.delivery.destinations import Dicom

    found = _effective(asked).settings.destinations
    if not found:
        print("no destinations; docs/pacs.md says how to name one")
    code = DONE
    for destination in found:
        line = f"{destination.name}\t{json.dumps(destination.describe())}"
        if asked.echo and isinstance(destination, Dicom):
            outcome = cstore.echo(destination)
            good = isinstance(outcome, Sent)
            line += f"\t{'answers' if good else outcome.reason}"  # type: ignore[union-attr]
            code = code if good else FAILED
        print(line)
    return code


def _demo(asked: argparse.Namespace) -> int:
    from service import phantoms

    asked.out.mkdir(parents=True, exist_ok=True)
    nodules = phantoms.write_ct(asked.out / "chest-ct")["nodules"]
    phantoms.write_fundus(asked.out / "fundus.jpg")
    centre = ",".join(f"{value:g}" for value in nodules[0]["center_mm"])
    print(f"Phantoms, not patients, in {asked.out}. Try:")
    print(f"  pellucid analyze {asked.out / 'chest-ct'} --center-mm {centre} --out {asked.out / 'ct-result'}")
    print(f"  pellucid analyze {asked.out / 'fundus.jpg'} --laterality R --out {asked.out / 'fundus-result'}")
    return DONE
