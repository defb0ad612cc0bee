"""Which model answers for what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models import bundle as bundles
from models.bundle import Bundle
from service.errors import NotFound, OutOfContract
from service.inference.routing import route
from service.records import Instance

CT = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture(scope="module")
def known(tiny_models: Path) -> dict[str, Bundle]:
    return {folder.name: bundles.load(folder) for folder in bundles.folders(tiny_models)}


def dicom(sop_class: str, modality: str, samples: int = 1) -> Instance:
    return Instance(Path("x"), "0", "dicom", 10, 10, "1.2", samples=samples, sop_class_uid=sop_class, modality=modality)


def photograph(samples: int) -> Instance:
    return Instance(Path("x"), "0", "photograph", 10, 10, "2.25.1", samples=samples)


@pytest.mark.parametrize(
    ("instance", "model"),
    [
        (dicom(CT, "CT"), "sisc_lung"),
        (photograph(3), "clear_dr"),
        (dicom("1.2.840.10008.5.1.4.1.1.77.1.5.1", "OP", 3), "clear_dr"),
        (dicom(SECONDARY, "OT", 3), "clear_dr"),
        (replace(dicom(SECONDARY, "OT"), photometric="PALETTE COLOR"), "clear_dr"),
    ],
)
def test_content_chooses_the_model(known: dict[str, Bundle], instance: Instance, model: str) -> None:
    bundle, taken = route(known, [instance])
    assert (bundle.name, taken) == (model, [instance])
    assert route(known, [instance], model)[0].name == model


def test_reports_beside_the_images_are_left_out(known: dict[str, Bundle]) -> None:
    images, report, dose = [dicom(CT, "CT")] * 2, dicom(SR, "SR"), dicom(SECONDARY, "CT")
    assert route(known, [report, *images, dose])[1] == images


def test_grey_crops_need_the_models_name(known: dict[str, Bundle]) -> None:
    assert route(known, [photograph(1)], "sisc_lung")[0].name == "sisc_lung"
    with pytest.raises(OutOfContract, match="Grey crops .* need the model's name"):
        route(known, [photograph(1)])


@pytest.mark.parametrize(
    ("instance", "model", "words"),
    [
        (photograph(3), "sisc_lung", "sisc_lung takes chest CT series; what was sent: colour photograph"),
        (dicom(CT, "CT"), "clear_dr", "clear_dr takes colour photographs of the retina; what was sent: DICOM CT"),
        (photograph(1), "clear_dr", "what was sent: grey image"),
        (dicom(SR, "SR"), None, "no model takes what was sent"),
        (dicom(SECONDARY, "OT", 1), None, "no model takes what was sent"),
    ],
)
def test_what_no_model_takes_is_out_of_contract(
    known: dict[str, Bundle], instance: Instance, model: str | None, words: str
) -> None:
    with pytest.raises(OutOfContract, match=words):
        route(known, [instance], model)


def test_an_unknown_name_names_the_known_ones(known: dict[str, Bundle]) -> None:
    with pytest.raises(NotFound, match="clear_dr, sisc_lung"):
        route(known, [photograph(3)], "nothing")


def test_a_mixture_has_to_be_decided_by_the_sender(known: dict[str, Bundle]) -> None:
    mixture = [dicom(CT, "CT"), photograph(3)]
    with pytest.raises(OutOfContract, match="several models"):
        route(known, mixture)
    assert route(known, mixture, "clear_dr")[1] == [mixture[1]]
