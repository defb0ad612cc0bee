"""Explanations against drawn lesions: our response maps and other methods on the same network and photographs.

Two questions are explained. `grade`: what speaks for the grade that was answered; ours is that grade's response map, a peer
explains the log-odds against the strongest rival. `referable`: what speaks for grade 2 or worse; ours is the sum of the
positive maps of grades 2 to 4 (what a CLEAR map shows in their colours), a peer explains the log-odds of the grades 2 to 4
against 0 and 1, linearised at the photograph. A map without positive response finds nothing and counts 0 in every measure of
place.

Every photograph is measured by itself and the numbers are kept in a folder, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from tqdm import tqdm

from models.perturbation import by_response
from training import explanations
from training.explanations import Method, Network, convolutions, methods, shuffled
from training.response_maps import evidence as ev
from training.response_maps.onnx_graph import read_members
from training.retina.data import answered
from training.retina.lesions import KINDS, Drawn, filled, grown, read
from training.retina.questions import QUESTIONS, asked, logits, occlusion, referable_map, sides, softmax

DEFAULT = "guided, contrast"
CURVE_PATCH_PX = 8
CURVE_SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
SHOWN = ("guided, class", "Grad-CAM", "Integrated Gradients", "LRP-gamma", "occlusion")
"""Methods in the picture, beside the CLEAR map and the default."""
COSTLY = ("Integrated Gradients", "LRP-gamma")


@dataclass(frozen=True)
class Settings:
    """How much is measured, and how; the defaults are for an ensemble.

    Subsets are the first photographs in one random order, so a smaller one is part of a larger one.
    """

    steps: int = 8
    """Of Integrated Gradients."""
    patch_px: int = 32
    stride_px: int = 32
    """Of occlusion."""
    costly: int = 14
    """Photographs for Integrated Gradients and LRP-gamma."""
    occluded: int = 4
    """Photographs for occlusion, and for the picture."""
    curves: int = 4
    """Photographs for deletion and insertion."""
    checked: int = 2
    """Photographs for stability, randomisation, and the peers' maps of all five grades."""
    noise: float = 0.05
    """Radius of stability's noise, in standard deviations of the photograph's local contrast."""
    draws: int = 1
    margin_px: int = 4
    """What is filled reaches so far beyond a lesion or the disc."""
    batch: int = 2
    """Images in one pass."""

    @staticmethod
    def affordable(members: int) -> Settings:
        """More photographs for a single network than for an ensemble, of what needs many passes."""
        if members > 1:
            return Settings()
        return Settings(steps=16, costly=27, occluded=4, curves=27, checked=8, draws=2)


@contextmanager
def passes_of(images: int) -> Iterator[None]:
    """Methods that need many passes take so many images at a time: 64 of 512 px do not fit into memory."""
    before, explanations.BATCH = explanations.BATCH, images
    try:
        yield
    finally:
        explanations.BATCH = before


def placed(response: np.ndarray, drawn: Drawn) -> dict[str, float]:
    """Where the positive response of one map, shape (S, S), lies; 0 in all of it without any."""
    positive = np.maximum(response, 0)
    total = float(positive.sum())
    regions = {"lesions": drawn.lesions, **dict(zip(KINDS, drawn.masks, strict=True))}
    found = {key: float(positive[region].sum()) / total if total > 0 else 0.0 for key, region in regions.items()}
    hits = {"pointing": drawn.near, "pointing_exact": drawn.lesions}
    return found | {key: float(bool(ev.pointing(response, region))) for key, region in hits.items()}


def nulls(drawn: Drawn) -> dict[str, float]:
    """What a map that is equal everywhere in the lit field would have in `placed`."""
    found = {"lesions": drawn.null(drawn.lesions)} | {
        kind: drawn.null(mask) for kind, mask in zip(KINDS, drawn.masks, strict=True)
    }
    return found | {"pointing": drawn.null(drawn.near), "pointing_exact": found["lesions"]}


def controls(drawn: Drawn) -> dict[str, np.ndarray]:
    """Maps that know nothing of the network, each shape (S, S)."""
    return {
        "local contrast": np.abs(drawn.image).sum(0),
        "turned lesions": np.asarray((drawn.lesions[::-1, ::-1] & drawn.lit), np.float32),
        "noise": np.random.default_rng(0).random(drawn.lit.shape) * drawn.lit,
        "drawn lesions": drawn.lesions.astype(np.float32),
    }


CONTROL_TEXTS = {
    "local contrast": "absolute value of the network's input, summed over the channels",
    "turned lesions": "the drawn lesions turned by 180 degrees about the middle: an equally large region elsewhere",
    "noise": "uniform noise in the lit field: a random order",
    "drawn lesions": "1 on the drawn lesions, else 0",
}


@dataclass(frozen=True)
class Task:
    """One photograph to be measured, and how much of it."""

    name: str
    members: tuple[int, ...] = ()
    """Which of the network's members; all without any."""
    costly: bool = False
    occluded: bool = False
    curves: bool = False
    checked: bool = False
    peers: bool = True
    """Whether other people's methods are measured as well."""


def tasks(photographs: Sequence[str], settings: Settings) -> list[Task]:
    """Which photograph is measured how far: those with most to measure first."""
    order = np.random.default_rng(0).permutation(len(photographs))
    parts = ("costly", "occluded", "curves", "checked")
    return [
        Task(photographs[k], **{part: place < getattr(settings, part) for part in parts})
        for place, k in enumerate(order)
    ]


def effects(network: Network, drawn: Drawn, settings: Settings) -> dict[str, list[float]]:
    """Probabilities (5,) of the photograph as it is, and with parts filled from their surroundings (`filled`)."""
    lesions = grown(drawn.lesions, settings.margin_px)
    disc = grown(drawn.masks[KINDS.index("OD")], settings.margin_px)
    images = {
        "photograph": drawn.image,
        "lesions filled": filled(drawn.image, lesions),
        "turned lesions filled": filled(drawn.image, lesions[::-1, ::-1] & ~lesions),
        "disc filled": filled(drawn.image, disc),
        "empty": np.zeros_like(drawn.image),
    }
    said = softmax(logits(network, np.stack(list(images.values())), settings.batch))
    return dict(zip(images, said.tolist(), strict=True))


def curves(
    network: Network, image: np.ndarray, grade: int, responses: Mapping[str, np.ndarray], settings: Settings
) -> dict[str, dict[str, float]]:
    """Deletion and insertion of each map: areas under p(grade), the baseline is zero."""

    def said(images: np.ndarray) -> np.ndarray:
        return softmax(logits(network, images, settings.batch))[:, grade]

    found = {}
    for name, response in responses.items():
        order = [by_response(response, CURVE_PATCH_PX)]
        lines = ev.curves(said, image, np.zeros_like(image), order, CURVE_PATCH_PX, CURVE_SHARES)
        found[name] = {
            figure: float(ev.area(line, CURVE_SHARES)[0])
            for figure, line in zip(("deletion", "insertion"), lines, strict=True)
        }
    return found


def grade_map(network: Network, method: Method, x: Tensor, weights: np.ndarray) -> np.ndarray:
    """The map of a question about one grade against its rival (`sides`), shape (S, S)."""
    if method.ours:
        return method.maps(network, x)[0, int(weights[1].argmax())].numpy()
    return method.maps(asked(network, weights), x)[0, 1].numpy()


def checks(
    network: Network, explain: Mapping[str, Method], x: Tensor, weights: np.ndarray, settings: Settings
) -> dict[str, dict[str, float]]:
    """Stability, what is left of a map when layers are randomised, and class correlation over the five grades' maps."""
    layers = convolutions(network.folded)
    stages = {count: Network(shuffled(network.folded, count), network.prior) for count in (1, layers)}
    found = {}
    for name, method in explain.items():

        def maps(images: np.ndarray, network: Network = network, method: Method = method) -> np.ndarray:
            return grade_map(network, method, torch.from_numpy(images), weights)[None]

        learnt = maps(x.numpy())
        values = {"stability": float(ev.stability(maps, x.numpy(), settings.noise, settings.draws)[0])}
        for count, other in stages.items():
            values[f"randomisation_{count}_of_{layers}"] = ev.rank_correlation(learnt, maps(x.numpy(), other))
        if not method.ours:
            values |= specificity(method.maps(network, x)[0].numpy())
        found[name] = values
    return found


def specificity(maps: np.ndarray) -> dict[str, float]:
    """How alike the maps of the grades are, shape (5, S, S)."""
    return {"class_correlation": ev.class_correlation(maps), "shared_response": ev.shared_response(maps)}


def measure(network: Network, drawn: Drawn, task: Task, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure one photograph.

    Returns
    -------
    numbers : dict
        For JSON: ``name``, ``grade``, ``logits``, ``nulls``, ``place`` (question -> method -> figure), ``classes``, ``curves``,
        ``checks``, ``effects``, ``seconds`` (processor time of a method's map or maps; one thread).
    maps : dict
        Arrays for the picture, of photographs whose task is `occluded`.
    """
    x = torch.from_numpy(drawn.image)[None]
    said = logits(network, drawn.image[None], 1)[0]
    grade, weights = int(answered(softmax(said))), {question: sides(said, question) for question in QUESTIONS}
    explain = {
        name: method
        for name, method in methods(settings.steps).items()
        if method.ours or (task.peers and name != "occlusion" and (task.costly or name not in COSTLY))
    }
    found: dict[str, dict[str, np.ndarray]] = {question: {} for question in QUESTIONS}
    classes, seconds, kept = {}, {}, {}
    for name, method in explain.items():
        began = time.process_time()
        if method.ours:
            maps = method.maps(network, x)[0].numpy()
            seconds[name] = time.process_time() - began
            found["grade"][name], found["referable"][name] = maps[grade], referable_map(maps)
            classes[name] = specificity(maps)
            if name == DEFAULT:
                kept["classes"] = maps
        else:
            for question in QUESTIONS:
                found[question][name] = method.maps(asked(network, weights[question]), x)[0, 1].numpy()
            seconds[name] = (time.process_time() - began) / len(QUESTIONS)
    if task.occluded:
        began = time.process_time()
        falls = occlusion(network, drawn.image, settings.patch_px, settings.stride_px, settings.batch)
        seconds["occlusion"] = time.process_time() - began
        for question in QUESTIONS:
            found[question]["occlusion"] = np.tensordot(weights[question][1] - weights[question][0], falls, 1)
        rivals = explanations.directions(torch.from_numpy(said)[None])[0].numpy()
        classes["occlusion"] = specificity(np.tensordot(rivals, falls, 1))
    known = controls(drawn) if task.peers else {}
    numbers: dict[str, Any] = {
        "name": drawn.name,
        "grade": drawn.grade,
        "logits": said.tolist(),
        "nulls": nulls(drawn),
        "place": {
            question: {name: placed(response, drawn) for name, response in (responses | known).items()}
            for question, responses in found.items()
        },
        "classes": classes,
        "seconds": seconds,
    }
    if task.peers:
        numbers["effects"] = effects(network, drawn, settings)
    if task.curves:
        numbers["curves"] = curves(network, drawn.image, grade, found["grade"] | known, settings)
    if task.checked:
        numbers["checks"] = checks(network, explain, x, weights["grade"], settings)
    return numbers, kept | {name: found["grade"][name] for name in (DEFAULT, *SHOWN) if task.occluded}


def perform(task: Task, weights: Path, data: Path, folder: Path, settings: Settings) -> None:
    """Measure one photograph with an exported graph's network, and write the numbers; nothing where that was done."""
    stem = task.name.replace("/", "_").removesuffix(".jpg")
    path = folder / f"{stem}.json"
    if path.exists():
        return
    torch.set_num_threads(1)
    members, prior = read_members(onnx.load(weights))
    network = Network([members[k] for k in task.members or range(len(members))], prior)
    with passes_of(settings.batch):
        numbers, maps = measure(network, read(data, task.name), task, settings)
    if task.occluded:
        kept: dict[str, Any] = {name: np.asarray(of, np.float16) for name, of in scaled(maps).items()}
        np.savez_compressed(path.with_suffix(".npz"), **kept)
    path.with_suffix(".part").write_text(json.dumps(numbers), encoding="utf-8")
    path.with_suffix(".part").replace(path)


def scaled(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps over their own largest magnitude: half the bits are enough for a picture then."""
    return {name: of / max(float(np.abs(of).max()), 1e-30) for name, of in maps.items()}


def perform_all(
    todo: Sequence[Task], weights: Path, data: Path, folder: Path, settings: Settings, workers: int
) -> list[dict[str, Any]]:
    """Measure all photographs, `workers` at a time (0: in this process), and read what is in the folder of these weights.

    Returns
    -------
    list of dict
        See `measure`; in the order of the photographs' names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work: Callable[[Task], None] = partial(perform, weights=weights, data=data, folder=folder, settings=settings)
    if workers:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            done = pool.map(work, todo)
            for _ in tqdm(done, total=len(todo), desc="compare", mininterval=2):
                pass
    else:
        for task in todo:
            work(task)
    stems = sorted(task.name.replace("/", "_").removesuffix(".jpg") for task in todo)
    return [json.loads((folder / f"{stem}.json").read_text(encoding="utf-8")) for stem in stems]


def key(weights: Path, settings: Settings) -> str:
    """Name of the folder for measurements of these weights with these settings."""
    digest = hashlib.sha256(weights.read_bytes())
    digest.update(json.dumps(asdict(settings)).encode())
    return digest.hexdigest()[:16]
