"""The shipped graphs on real images: ONNX Runtime against the float64 reference on the exported weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from benchmarks.maps import lung_images, retina_images
from models import bundle as bundles
from training.bundles import Model
from training.response_maps.onnx_graph import is_mirrored, read_members
from training.response_maps.reference import ensemble_forward, ensemble_maps


@pytest.mark.parametrize(("name", "images", "count"), [("sisc_lung", lung_images, 5), ("clear_dr", retina_images, 1)])
def test_the_shipped_graph_is_the_reference(name, images, count, data):
    bundle = bundles.load(bundles.ROOT / name)
    maps = bundle.description["response_maps"]
    model = onnx.load(bundle.weights)
    (members, prior), mirrored = read_members(model), is_mirrored(model)
    x = images(count)
    found = Model(bundle.weights).run(x, "logits", "probabilities", "response_maps", "features")
    exact = torch.from_numpy(x).double()
    logits, features = ensemble_forward(members, exact, prior=prior, mirrored=mirrored)
    expected = ensemble_maps(members, exact, maps["rule"], maps["start"], mirrored=mirrored).numpy()
    np.testing.assert_allclose(found[0], logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1], logits.softmax(1), atol=1e-4)
    np.testing.assert_allclose(found[3], features, rtol=1e-3, atol=1e-4)
    assert np.corrcoef(found[2].ravel(), expected.ravel())[0, 1] > 0.9999
    assert np.abs(expected).max() > 0
    for number, output in enumerate(bundle.description["outputs"]):
        assert list(found[number].shape[1:]) == output["shape"][1:]
