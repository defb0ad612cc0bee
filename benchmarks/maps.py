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
from torch import nn

from benchmarks.pairs import pairs
from models import bundle as bundles
from models.preprocessing import fundus_field, fundus_square
from training.data import shared_data
from training.lung.data import part_of, read_stack, windows
from training.lung.train import plain
from training.response_maps.layers import Convolution, Layer, Pool, Rectifier
from training.response_maps.onnx_graph import build, read_layers
from training.retina.data import PREPROCESSING as SQUARE
from training.retina.data import photographs, read

THREADS = 2


def lung_images(count: int) -> np.ndarray:
    """Middle slices of nodules of test patients, shape (count, 1, 96, 96)."""
    data = shared_data() / "lidc_nodules"
    found: list[np.ndarray] = []
    with (data / "nodules.csv").open(encoding="utf-8") as stream, zipfile.ZipFile(data / "slices.zip") as archive:
        for row in csv.DictReader(stream):
            if part_of(row["patient_id"]) != "test" or row["match"] != "exact":
                continue
            slices = int(row["n_slices"])
            stack = read_stack(archive, row["file"], slices)[(slices - 1) // 2][None]
            found.append(plain(windows(stack, float(row["pixel_spacing_mm"]))).numpy()[0])
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


def as_torch(layers: tuple[Layer, ...]) -> nn.Sequential:
    """The exported layers as PyTorch modules, float32, channels_last, with GAP: logits out."""
    modules: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, Convolution):
            out, into, kernel, _ = layer.weight.shape
            conv = nn.Conv2d(into, out, kernel, layer.stride, layer.padding)
            conv.weight.data, conv.bias.data = layer.weight.float(), layer.bias.float()  # type: ignore[union-attr]
            modules.append(conv)
        elif isinstance(layer, Rectifier):
            modules.append(nn.ReLU())
        elif isinstance(layer, Pool):
            modules.append(nn.MaxPool2d(2))
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval().to(memory_format=torch.channels_last)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """All figures of one bundle."""
    torch.set_num_threads(THREADS)
    bundle = bundles.load(bundles.ROOT / name)
    images = lung_images(16) if bundle.task == "nodule_malignancy" else retina_images(16)
    classes = len(bundle.classes)
    layers = read_layers(onnx.load(bundle.weights))
    engine = session(str(bundle.weights))
    thesis = session(
        build(layers, images.shape[1:], bundle.description["response_maps"]["rule"], "class").SerializeToString()
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
    for size in (1, 16):
        batches = [images[k : k + size] for k in range(0, 16, size)]
        text = f"prediction + all class maps against {1 + classes} forward passes, batch {size}"
        for run, what in ((engine, text), (thesis, f"{text}, start `class`")):
            found[what] = pairs(partial(all_maps, run, batches), partial(forwards, run, batches), rounds)
    network = as_torch(layers)
    tensors = [torch.from_numpy(images[k : k + 1]).contiguous(memory_format=torch.channels_last) for k in range(4)]
    deconvolution, cam = (
        Deconvolution(network),
        LayerGradCam(network, [m for m in network if isinstance(m, nn.ReLU)][-1]),
    )

    def captum_deconvolution() -> None:
        for x in tensors:
            for c in range(classes):
                deconvolution.attribute(x.requires_grad_(), target=c)

    def captum_grad_cam() -> None:
        for x in tensors:
            for c in range(classes):
                LayerAttribution.interpolate(cam.attribute(x, target=c), images.shape[2:])

    four = [images[k : k + 1] for k in range(4)]
    found["Captum Deconvolution (PyTorch), all classes, against ours"] = pairs(
        captum_deconvolution, lambda: all_maps(engine, four), rounds
    )
    found["Captum GradCAM (PyTorch), all classes, against ours"] = pairs(
        captum_grad_cam, lambda: all_maps(engine, four), rounds
    )
    return found
