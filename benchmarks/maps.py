"""Cost of the response maps: against plain forward passes in ONNX Runtime, and against Captum in PyTorch."""

from __future__ import annotations

import csv
import zipfile
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from captum.attr import Deconvolution, LayerAttribution, LayerGradCam

from benchmarks.pairs import pairs
from models import bundle as bundles
from models.preprocessing import fundus_field, fundus_square, nodule_window
from training.data import fold_of, shared_data
from training.explanations import Network
from training.lung.data import CENTRE, FOLDS, TEST_FOLDS, read_stack
from training.response_maps.onnx_graph import build, is_mirrored, read_members
from training.retina.data import PREPROCESSING as SQUARE
from training.retina.data import photographs, read

THREADS = 2


def lung_images(count: int) -> np.ndarray:
    """Middle slices of nodules of test patients as the shipped lung model sees them, shape (count, 1, H, W)."""
    window = bundles.load(bundles.ROOT / "sisc_lung").step("nodule_window")
    data = shared_data() / "lidc_nodules"
    found: list[np.ndarray] = []
    with (data / "nodules.csv").open(encoding="utf-8") as stream, zipfile.ZipFile(data / "slices.zip") as archive:
        for row in csv.DictReader(stream):
            if fold_of(row["patient_id"], FOLDS) not in TEST_FOLDS or row["match"] != "exact":
                continue
            slices = int(row["n_slices"])
            middle = read_stack(archive, row["file"], slices)[(slices - 1) // 2]
            spacing = float(row["pixel_spacing_mm"])
            found.append(nodule_window(middle, CENTRE, (spacing, spacing), **window))
            if len(found) == count:
                break
    return np.stack(found)


def retina_images(count: int) -> np.ndarray:
    """IDRiD test photographs, shape (count, 3, 512, 512)."""
    data = shared_data()
    found = []
    for item in [p for p in photographs(data) if p.source == "idrid" and p.part == "test"][:count]:
        pixels = read(data, item)
        field = fundus_field(pixels)
        assert field is not None
        found.append(fundus_square(pixels, field, **SQUARE))  # type: ignore[arg-type]
    return np.stack(found)


def session(model: bytes | str) -> ort.InferenceSession:
    """A graph (path or bytes) in ONNX Runtime on the CPU with `THREADS` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def measure(name: str, rounds: int) -> dict[str, Any]:
    """All figures of one bundle."""
    torch.set_num_threads(THREADS)
    bundle = bundles.load(bundles.ROOT / name)
    images = lung_images(16) if bundle.task == "nodule_malignancy" else retina_images(4)  # of what fits into memory
    classes = len(bundle.classes)
    model = onnx.load(bundle.weights)
    (members, prior), mirrored = read_members(model), is_mirrored(model)
    engine = session(str(bundle.weights))
    rule = bundle.description["response_maps"]["rule"]
    thesis = session(
        build(members, images.shape[1:], rule, "class", prior=prior, mirrored=mirrored).SerializeToString()
    )
    no = np.array(False)
    found: dict[str, Any] = {}

    def all_maps(run: ort.InferenceSession, batches: list[np.ndarray]) -> None:
        for batch in batches:
            run.run(["probabilities", "response_maps"], {"image": batch})

    def forwards(run: ort.InferenceSession, batches: list[np.ndarray]) -> None:
        for batch in batches:
            for _ in range(1 + classes):
                run.run(["probabilities"], {"image": batch, "with_maps": no})

    maps = np.concatenate([engine.run(["response_maps"], {"image": images[k : k + 1]})[0] for k in range(len(images))])
    found["share of (image, class) maps that are not zero"] = round(float((np.abs(maps).max((2, 3)) > 0).mean()), 3)
    for size in (1, len(images)):
        batches = [images[k : k + size] for k in range(0, len(images), size)]
        text = f"prediction + all class maps against {1 + classes} forward passes, batch {size}"
        for run, what in ((engine, text), (thesis, f"{text}, start `class`")):
            found[what] = pairs(partial(all_maps, run, batches), partial(forwards, run, batches), rounds)
    network = Network(members, prior)
    tensors = [torch.from_numpy(images[k : k + 1]).contiguous(memory_format=torch.channels_last) for k in range(4)]
    if mirrored:
        tensors += [x.flip(3) for x in tensors]
    deconvolution = Deconvolution(network)
    cams = [
        LayerGradCam(lambda x, member=member: member(x).mean((2, 3)), list(member.children())[-2])
        for member in network.members
    ]

    def captum_deconvolution() -> None:
        for x in tensors:
            for c in range(classes):
                deconvolution.attribute(x.requires_grad_(), target=c)

    def captum_grad_cam() -> None:
        for x in tensors:
            for c in range(classes):
                cam = torch.stack([method.attribute(x, target=c) for method in cams]).mean(0)
                LayerAttribution.interpolate(cam, images.shape[2:])

    four = [images[k : k + 1] for k in range(4)]
    found["Captum Deconvolution (PyTorch), all classes, against ours"] = pairs(
        captum_deconvolution, lambda: all_maps(engine, four), rounds
    )
    found["Captum GradCAM (PyTorch), all classes, against ours"] = pairs(
        captum_grad_cam, lambda: all_maps(engine, four), rounds
    )
    return found
