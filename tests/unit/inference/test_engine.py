"""The engine against values a person can work out: the tiny bundles are one 1 x 1 convolution."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from models.bundle import BundleError
from service.inference import engine as module
from service.inference.engine import CPU, Engine, EngineError


@pytest.fixture(scope="module")
def engine(tiny_models: Path) -> Engine:
    return Engine(tiny_models, threads=1, batch_limit=4)


def test_values_are_those_worked_out_by_hand(engine: Engine) -> None:
    bundle = engine.bundles["sisc_lung"]
    x = np.stack([np.full((1, 96, 96), value, np.float32) for value in (0.25, 0.5, 0.75)])
    got = engine.run(bundle, x, ["probabilities", "response_maps"])
    malignant = 1 / (1 + np.exp(4 - 8 * np.array([0.25, 0.5, 0.75])))
    assert np.allclose(got["probabilities"], np.stack([1 - malignant, malignant], axis=1), atol=1e-6)
    assert np.allclose(got["response_maps"][:, 1, 0, 0], [-1, 0, 1], atol=1e-6)
    assert got["response_maps"].shape == (3, 2, 96, 96)


def test_long_batches_are_cut_and_put_together_in_order(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    session = engine._models["sisc_lung"].session

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(session, name)

        def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert outputs == ["probabilities"]  # only what was asked for
            sizes.append(len(feeds["image"]))
            return list(session.run(outputs, feeds))

    monkeypatch.setattr(engine._models["sisc_lung"], "session", Watched())
    values = np.linspace(0, 1, 10, dtype=np.float32)
    x = np.broadcast_to(values[:, None, None, None], (10, 1, 96, 96))
    got = engine.run(engine.bundles["sisc_lung"], x, ["probabilities"])["probabilities"][:, 1]
    assert sizes == [4, 4, 2]
    assert np.allclose(got, 1 / (1 + np.exp(4 - 8 * values)), atol=1e-5)


def test_threads_share_a_session(engine: Engine) -> None:
    bundle, wrong = engine.bundles["sisc_lung"], []

    def work(value: float) -> None:
        for _ in range(5):
            got = engine.run(bundle, np.full((2, 1, 96, 96), value, np.float32), ["logits"])["logits"]
            if not np.allclose(got, [[2 - 4 * value, 4 * value - 2]] * 2, atol=1e-5):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(n / 4,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_statistics_count_images(tiny_models: Path) -> None:
    engine = Engine(tiny_models, threads=1)
    engine.run(engine.bundles["sisc_lung"], np.zeros((3, 1, 96, 96), np.float32), ["logits"])
    with pytest.raises(Exception, match="(?i)invalid|shape|dimension"):
        engine.run(engine.bundles["sisc_lung"], np.zeros((1, 1, 95, 96), np.float32), ["logits"])
    found = engine.statistics("sisc_lung")
    assert (found.runs, found.images, found.failures) == (1, 3, 1)
    assert found.seconds > 0
    assert engine.statistics("clear_dr").images == 0


def test_inputs_and_outputs_are_described(engine: Engine) -> None:
    described = engine.describe("clear_dr")
    assert described["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 512, 512]}]
    assert {row["name"]: row["shape"] for row in described["outputs"]}["response_maps"] == [-1, 5, 512, 512]


def test_the_provider_reported_is_the_one_in_use(engine: Engine) -> None:
    assert engine.provider("sisc_lung") == engine._models["sisc_lung"].session.get_providers()[0]


def test_cuda_that_silently_falls_back_is_an_error_when_it_was_demanded(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime lists CUDA as available without a GPU and then runs on the CPU without an exception."""
    opened = onnxruntime.InferenceSession

    def falls_back(path: str, options: object, providers: list[str]) -> object:
        return opened(path, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    with pytest.raises(EngineError, match="provider = cuda, but model .* runs on CPUExecutionProvider"):
        Engine(tiny_models, provider="cuda")


def test_a_gpu_that_cannot_be_used_is_said(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = onnxruntime.InferenceSession
    asked: list[list[str]] = []

    def falls_back(path: str, options: object, providers: list[str]) -> object:
        asked.append(providers)
        return opened(path, options, providers=[CPU])

    device = tmp_path / "device"
    device.touch()
    monkeypatch.setattr(module, "_GPU_DEVICES", (str(device),))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [module.CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    with caplog.at_level(logging.WARNING, "pellucid.inference"):
        engine = Engine(tiny_models)
    assert asked == [[module.CUDA, CPU]] * 2
    assert engine.provider("clear_dr") == CPU
    assert "fell back to CPUExecutionProvider" in caplog.text


def test_without_a_gpu_cuda_is_not_even_tried(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = onnxruntime.InferenceSession
    asked: list[list[str]] = []

    def watched(path: str, options: object, providers: list[str]) -> object:
        asked.append(providers)
        return opened(path, options, providers=[CPU])

    monkeypatch.setattr(module, "_GPU_DEVICES", ())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [module.CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    Engine(tiny_models)
    assert asked == [[CPU]] * 2


def test_no_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle"):
        Engine(tmp_path)


def test_one_bad_bundle_stops_all(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models, tmp_path / "models")
    weights = tmp_path / "models" / "clear_dr" / "model.onnx"
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="clear_dr"):
        Engine(tmp_path / "models")


def test_weights_that_are_no_network_are_refused_by_name(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "sisc_lung", tmp_path / "sisc_lung")
    old = json.loads((tmp_path / "sisc_lung/model.json").read_text())["weights"]["sha256"]
    (tmp_path / "sisc_lung/model.onnx").write_bytes(b"nonsense")
    description = (tmp_path / "sisc_lung/model.json").read_text()
    (tmp_path / "sisc_lung/model.json").write_text(description.replace(old, hashlib.sha256(b"nonsense").hexdigest()))
    with pytest.raises(BundleError, match="sisc_lung: ONNX Runtime cannot open"):
        Engine(tmp_path)


def with_switch(bundle: Path, copy: Path) -> None:
    """A copy of the tiny lung bundle whose graph has the optional input: without maps it gives an empty batch of them."""
    shutil.copytree(bundle, copy)
    model = onnx.load(copy / "model.onnx")
    graph = model.graph
    next(node for node in graph.node if node.op_type == "Conv").output[0] = "all_maps"
    next(node for node in graph.node if node.op_type == "GlobalAveragePool").input[0] = "all_maps"
    graph.node.extend([
        helper.make_node("Not", ["with_maps"], ["without"]),
        helper.make_node("Cast", ["without"], ["skip"], to=TensorProto.INT64),
        helper.make_node("Constant", [], ["many"], value=helper.make_tensor("m", TensorProto.INT64, [], [1 << 40])),
        helper.make_node("Mul", ["skip", "many"], ["first"]),
        helper.make_node("Constant", [], ["one"], value=helper.make_tensor("o", TensorProto.INT64, [1], [0])),
        helper.make_node("Unsqueeze", ["first", "one"], ["start"]),
        helper.make_node("Constant", [], ["end"], value=helper.make_tensor("e", TensorProto.INT64, [1], [1 << 41])),
        helper.make_node("Slice", ["all_maps", "start", "end", "one"], ["response_maps"]),
    ])  # fmt: skip
    graph.input.append(helper.make_tensor_value_info("with_maps", TensorProto.BOOL, []))
    graph.initializer.append(helper.make_tensor("with_maps", TensorProto.BOOL, [], [True]))
    onnx.save(model, copy / "model.onnx")
    old = json.loads((copy / "model.json").read_text())["weights"]["sha256"]
    new = hashlib.sha256((copy / "model.onnx").read_bytes()).hexdigest()
    (copy / "model.json").write_text((copy / "model.json").read_text().replace(old, new))


def test_a_graph_with_a_switch_is_told_when_no_maps_are_wanted(tiny_models: Path, tmp_path: Path) -> None:
    with_switch(tiny_models / "sisc_lung", tmp_path / "sisc_lung")
    engine = Engine(tmp_path, threads=1)
    bundle, x = engine.bundles["sisc_lung"], np.full((2, 1, 96, 96), 0.75, np.float32)
    assert [row["name"] for row in engine.describe("sisc_lung")["inputs"]] == ["image"]
    fed: list[bool] = []
    session = engine._models["sisc_lung"].session

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(session, name)

        def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            fed.append(bool(feeds["with_maps"]))
            return list(session.run(outputs, feeds))

    engine._models["sisc_lung"].session = Watched()
    assert engine.run(bundle, x, ["probabilities", "response_maps"])["response_maps"].shape == (2, 2, 96, 96)
    assert engine.run(bundle, x, ["probabilities"])["probabilities"].shape == (2, 2)
    assert fed == [True, False]
