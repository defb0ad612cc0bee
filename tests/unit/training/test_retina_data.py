"""Retina data: the split of the shared sets, official downloads made up in small, and the thesis' recipe worked out anew."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.preprocessing import Field, fundus_field, fundus_square
from training.data import fold_of
from training.retina import official
from training.retina.data import PREPROCESSING, Photograph, load, photographs, prepare, quantise, read
from training.retina.duplicates import idrid_duplicates, idrid_left_out, idrid_twins
from training.retina.thesis import moments, statistics, thesis_square


def disc(width: int = 420, height: int = 300, seed: int = 0) -> Image.Image:
    """A photograph: a disc as high as the image, of patches, on black."""
    y, x = np.mgrid[:height, :width]
    lit = (x + 0.5 - width / 2) ** 2 + (y + 0.5 - height / 2) ** 2 < (height / 2) ** 2
    patches = np.random.default_rng(seed).integers(-80, 81, (height // 10 + 1, width // 10 + 1, 1))
    grain = patches.repeat(10, 0).repeat(10, 1)[:height, :width]
    return Image.fromarray(((np.array([120, 110, 100]) + grain) * lit[:, :, None]).astype(np.uint8))


def table(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def save(image: Image.Image, path: Path, **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """What is prepared here comes from the official folders alone."""
    if "data" not in request.fixturenames:
        monkeypatch.setenv("PELLUCID_SHARED", str(tmp_path / "none"))


# -- the shared sets ------------------------------------------------------------------------------------------------------


def test_the_retina_split(data: Path) -> None:
    """Both copies and both eyes of a patient on one side; nothing that a later figure is measured on is trained on."""
    items = photographs(data)
    of_patient: dict[str, set[tuple[str, int]]] = {}
    for item in items:
        of_patient.setdefault(item.patient, set()).add((item.part, item.fold))
        if item.source.startswith("eyepacs"):
            assert item.fold == fold_of(item.patient, 8)
    assert all(len(places) == 1 for places in of_patient.values())
    assert {item.part for item in items} == {"train", "test"}
    members = {item.member for item in items if item.part != "test"}
    assert not members & idrid_duplicates()
    assert sum(item.source == "idrid" and item.part == "test" for item in items) == 103
    natural = {i.member: i for i in items if i.source == "eyepacs_natural"}
    copies = [i for i in items if i.source == "eyepacs_equalised" and i.member in natural]
    assert len(copies) > 100
    assert all(
        (i.part, i.fold, i.eye) == (natural[i.member].part, natural[i.member].fold, i.member[:-4].split("_")[1])
        for i in copies
    )
    assert all((i.part == "test") == (i.fold == 0) for i in natural.values())
    with (data / "idrid/grading.csv").open() as stream:
        labels = {row["file"]: (int(row["grade"]), int(row["dme_risk"])) for row in csv.DictReader(stream)}
    graded = [item for item in items if item.source == "idrid"]
    assert len(graded) == 494 and all((i.grade, i.dme) == labels[i.member] for i in graded)
    assert {item.dme for item in items if item.source.startswith("eyepacs")} == {-1}
    fold_by_number = {int(i.member[-7:-4]): i.fold for i in graded if i.part == "train"}
    assert [fold_by_number[number] for number in (1, 13, 14, 104, 105)] == [0, 0, 1, 7, 0]  # neighbours stay together


def test_pictures_that_occur_twice(data: Path) -> None:
    """The table of lesion images among the graded ones is that of the data; no lesion-test image is trained on."""
    side = {"a. Training Set": "train", "b. Testing Set": "test"}
    with (data / "idrid/lesions_to_grading.csv").open() as stream:
        pairs = list(csv.DictReader(stream))
    named = {
        f"{side[p['seg_split']]}/{p['seg_image']}": f"{side[p['grading_split']]}/{p['grading_image']}"
        for p in pairs
        if p["grading_image"]
    }
    assert idrid_twins() == named
    lesion_test = {graded for drawn, graded in named.items() if drawn.startswith("test/")}
    assert len(lesion_test) == 15 and idrid_left_out() == lesion_test | idrid_duplicates()
    items = photographs(data)
    assert not {item.member for item in items if item.source == "idrid"} & lesion_test
    drawn = {item.member: item for item in items if item.source == "idrid_lesions"}
    assert len(drawn) == 51
    by_name = {item.member: item for item in items if item.source == "idrid"}
    for name, item in drawn.items():
        if twin := by_name.get(named.get(name, "")):
            assert (item.patient, item.grade, item.dme, item.fold) == (twin.patient, twin.grade, twin.dme, twin.fold)
        else:
            assert name not in named and (item.grade, item.dme) == (-1, -1)


# -- official downloads ---------------------------------------------------------------------------------------------------


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """EyePACS: three patients; a photograph that is not there, a cut-off one, a black one."""
    folder = tmp_path / "kaggle"
    names = ["10_left", "10_right", "13_left", "13_right", "15_left"]
    table(folder / "trainLabels.csv", "image,level", *(f"{name},{k % 5}" for k, name in enumerate(names)), "16_left,1")
    table(folder / "retinopathy_solution.csv", "image,level,Usage", "1_left,2,Public", "1_right,4,Private")
    for k, name in enumerate(names):
        save(disc(seed=k), folder / f"train/{name}.jpeg", quality=95)
    for k, name in enumerate(("1_left", "1_right")):
        save(disc(seed=9 + k), folder / f"test/{name}.jpeg", quality=95)
    whole = (folder / "train/13_right.jpeg").read_bytes()
    (folder / "train/13_right.jpeg").write_bytes(whole[: len(whole) // 2])
    save(Image.new("RGB", (90, 60)), folder / "train/15_left.jpeg")
    return folder


def test_eyepacs_is_prepared_without_what_is_broken(kaggle: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "made", eyepacs=kaggle, workers=1)
    prepared = load(tmp_path / "made")
    found = [(i.member, i.patient, i.eye, i.grade, i.source) for i in prepared.items]
    assert found == [
        ("train/10_left.jpeg", "eyepacs 10", "left", 0, "eyepacs_natural"),
        ("train/10_right.jpeg", "eyepacs 10", "right", 1, "eyepacs_natural"),
        ("train/13_left.jpeg", "eyepacs 13", "left", 2, "eyepacs_natural"),
        ("test/1_left.jpeg", "eyepacs 1", "left", 2, "eyepacs_natural"),
        ("test/1_right.jpeg", "eyepacs 1", "right", 4, "eyepacs_natural"),
    ]
    for item in prepared.items:
        assert item.fold == fold_of(item.patient, 8) and item.part == ("test" if item.fold == 0 else "train")
        assert item.dme == -1
    left_out = (tmp_path / "made/left_out.txt").read_text().splitlines()
    assert [line.split(": ")[0].rpartition("/")[2] for line in left_out] == [
        "16_left.jpeg", "13_right.jpeg", "15_left.jpeg",
    ]  # fmt: skip
    assert [reason in line for reason, line in zip(("not there", "truncated", "lit"), left_out, strict=True)] == [
        True
    ] * 3
    assert prepared.images.shape == (5, 3, 512, 512) and prepared.lesions.shape == (5, 4, 64, 64)
    for row in (2, 4):  # behind what was left out, too, rows are those of their photographs
        pixels = np.asarray(Image.open(kaggle / prepared.items[row].member))
        field = fundus_field(pixels)
        assert field is not None
        expected = quantise(fundus_square(pixels, field, size_px=512, grid=16, margin=0.95))
        np.testing.assert_array_equal(prepared.images[row], expected)
    assert json.loads((tmp_path / "made/recipe.json").read_text()) == {"recipe": "clear", **PREPROCESSING}


def test_a_set_of_which_nothing_can_be_read_is_an_error(kaggle: Path, tmp_path: Path) -> None:
    for path in kaggle.glob("*/*.jpeg"):
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match="no photograph of eyepacs_natural can be read: see .*left_out.txt"):
        prepare(tmp_path / "made", eyepacs=kaggle, workers=1)
    with pytest.raises(FileNotFoundError, match="prepare"):
        load(tmp_path / "made")


def test_aptos_keeps_one_of_equal_photographs_and_none_of_those_in_doubt(tmp_path: Path) -> None:
    rows = {"aa": (0, 1), "bb": (1, 2), "cc": (1, 2), "dd": (2, 0), "ee": (2, 3), "ff": (3, 4), "gg": (4, 4)}
    table(tmp_path / "train.csv", "id_code,diagnosis", *(f"{name},{grade}" for name, (_, grade) in rows.items()))
    table(tmp_path / "test.csv", "id_code", "hh")
    for k, (name, (seed, _)) in enumerate(rows.items()):
        save(disc(seed=seed), tmp_path / f"train_images/{name}.png", compress_level=k)
    assert (tmp_path / "train_images/bb.png").read_bytes() != (tmp_path / "train_images/cc.png").read_bytes()
    (tmp_path / "train_images/gg.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    left_out: list[str] = []
    found = official.aptos(tmp_path, left_out.append)
    assert [(i.member, i.grade, i.patient, i.part, i.eye, i.dme) for i in found] == [
        ("train_images/aa.png", 1, "aptos aa", "train", "", -1),
        ("train_images/bb.png", 2, "aptos bb", "train", "", -1),
        ("train_images/ff.png", 4, "aptos ff", "train", "", -1),
    ]
    assert all(item.fold == fold_of(item.patient, 8) and item.source == "aptos" for item in found)
    assert sorted(line.split(": ")[0][-6:-4] for line in left_out) == ["cc", "dd", "ee", "gg"]
    assert sum("another grade" in line for line in left_out) == 2
    np.testing.assert_array_equal(read(Path(), found[1]), np.asarray(disc(seed=1)))


@pytest.fixture
def idrid(tmp_path: Path) -> Path:
    """IDRiD as it is unpacked: its own names, a heading that ends in a space, empty columns; masks in a palette."""
    folder = tmp_path / "idrid"
    grading, heading = folder / "B. Disease Grading", "Image name,Retinopathy grade,Risk of macular edema ,,,"
    graded = {"IDRiD_001": (3, 2), "IDRiD_102": (2, 1), "IDRiD_118": (0, 0), "IDRiD_356": (3, 2)}
    lines = [f"{name},{grade},{risk},,," for name, (grade, risk) in graded.items()]
    table(grading / "2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv", heading, *lines, ",,,,,")
    table(grading / "2. Groundtruths/b. IDRiD_Disease Grading_Testing Labels.csv", heading, "IDRiD_001,4,0,,,")
    for k, name in enumerate(graded):
        save(disc(seed=k), grading / f"1. Original Images/a. Training Set/{name}.jpg")
    save(disc(seed=7), grading / "1. Original Images/b. Testing Set/IDRiD_001.jpg")
    segmentation = folder / "A. Segmentation/A. Segmentation"
    for number in ("01", "04", "09"):
        save(disc(640, 512), segmentation / f"1. Original Images/a. Training Set/IDRiD_{number}.jpg", quality=95)
    for lesion, kind in (
        ("MA", "1. Microaneurysms"),
        ("HE", "2. Haemorrhages"),
        ("EX", "3. Hard Exudates"),
        ("SE", "4. Soft Exudates"),
    ):
        drawn = np.zeros((512, 640), np.uint8)
        drawn[80:88, 64 + 160 : 64 + 176] = 1
        mask = Image.fromarray(drawn, "P")
        mask.putpalette([0, 0, 0, 255, 0, 0])
        for number in ("01", "04") if lesion == "SE" else ("01",):
            save(
                mask,
                segmentation / f"2. All Segmentation Groundtruths/a. Training Set/{kind}/IDRiD_{number}_{lesion}.tif",
            )
    return folder


def test_idrid_official(idrid: Path, tmp_path: Path) -> None:
    """Names and patients are those of the shared copy, exclusions hold, and lesions fall where they were drawn."""
    prepare(tmp_path / "made", idrid=idrid, workers=1)
    prepared = load(tmp_path / "made")
    assert [(i.source, i.patient, i.grade, i.dme, i.part) for i in prepared.items] == [
        ("idrid", "idrid train/IDRiD_001.jpg", 3, 2, "train"),
        ("idrid", "idrid train/IDRiD_102.jpg", 2, 1, "train"),
        ("idrid", "idrid test/IDRiD_001.jpg", 4, 0, "test"),
        ("idrid_lesions", "idrid train/IDRiD_102.jpg", 2, 1, "train"),  # lesion image 01; 09 is of the grading test
        ("idrid_lesions", "idrid lesions train/IDRiD_04.jpg", -1, -1, "train"),
    ]
    assert prepared.items[1].fold == prepared.items[3].fold
    assert list(prepared.rows("train", "idrid", "idrid_lesions")) == [0, 1, 3]
    # The disc fills 512 x 512 px from column 64 on: rows 80 to 87, columns 160 to 175 are cells (10, 20) and (10, 21).
    expected = np.zeros((64, 64), np.uint8)
    expected[10, 20:22] = 1
    field = fundus_field(np.asarray(disc(640, 512)))
    assert field is not None and field.box[1] >= 0
    for k in range(4):
        np.testing.assert_array_equal(prepared.lesions[3, k], expected)
        np.testing.assert_array_equal(prepared.lesions[4, k], expected * (k == 3))
    assert not prepared.lesions[:3].any()


def test_all_three_together_fill_each_other_up(kaggle: Path, idrid: Path, tmp_path: Path) -> None:
    (kaggle / "retinopathy_solution.csv").unlink()
    table(tmp_path / "aptos/train.csv", "id_code,diagnosis", "aa,0")
    save(disc(), tmp_path / "aptos/train_images/aa.png")
    prepare(tmp_path / "made", eyepacs=kaggle, aptos=tmp_path / "aptos", idrid=idrid, workers=2)
    sources = Counter(item.source for item in load(tmp_path / "made").items)
    assert sources == {"idrid": 3, "idrid_lesions": 2, "eyepacs_natural": 3, "aptos": 1}


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("kaggle/trainLabels.csv", "no file .*trainLabels.csv: join train.zip.001"),
        ("kaggle/train", "no photograph in .*train: join train.zip.001"),
        ("idrid/A. Segmentation", "no folder 'A. Segmentation/1. Original Images' in .*: unpack 'A. Segmentation.zip'"),
        (
            "idrid/A. Segmentation/A. Segmentation/2. All Segmentation Groundtruths",
            "no mask of MA in .*: unpack 'A. Seg",
        ),
        ("idrid/B. Disease Grading/2. Groundtruths", "no file .*Training Labels.csv: unpack 'B. Disease Grading.zip'"),
    ],
)
def test_what_is_missing_is_named(kaggle: Path, idrid: Path, tmp_path: Path, gone: str, message: str) -> None:
    (kaggle / "retinopathy_solution.csv").unlink()
    (tmp_path / gone).rename(tmp_path / "gone")
    read_it = official.eyepacs if gone.startswith("kaggle") else official.idrid
    with pytest.raises(FileNotFoundError, match=message):
        read_it(tmp_path / gone.split("/")[0], lambda _: None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("name,level", "10_left,0"), "has no column image: "),
        ((), "has no column image, level: "),
        (("image,level", "10_left,5"), "has the label '5', which is none of 0 to 4"),
        (("image,level", "10,0"), "'10' is no name of an EyePACS photograph"),
    ],
)
def test_a_table_that_is_another_is_refused(kaggle: Path, lines: tuple[str, ...], message: str) -> None:
    table(kaggle / "trainLabels.csv", *lines)
    save(disc(), kaggle / "train/10.jpeg")
    with pytest.raises(ValueError, match=message):
        official.eyepacs(kaggle, lambda _: None)


def test_nothing_to_prepare_and_arrays_of_an_earlier_version_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="PELLUCID_SHARED"):
        prepare(tmp_path / "made", workers=1)
    with pytest.raises(ValueError, match="no recipe 'other'"):
        prepare(tmp_path / "made", workers=1, recipe="other")
    old = {"archive": "a", "member": "b", "source": "idrid", "patient": "c", "grade": 0, "part": "validation"}
    (tmp_path / "photographs.json").write_text(json.dumps([old]))
    with pytest.raises(FileNotFoundError, match="earlier version, without folds: run"):
        load(tmp_path)


def test_a_large_jpeg_is_read_at_a_part_of_its_size(tmp_path: Path) -> None:
    """At a half, where both sides keep 1024 px; what the network sees differs by a few hundredths of its deviation."""
    y, x = np.mgrid[:420, :600] / 100
    lit = np.hypot(x - 3, y - 2.1) < 2.1
    small = (128 + 50 * np.sin(9 * x) * np.cos(7 * y))[:, :, None] * (1, 0.7, 0.4) * lit[:, :, None]
    save(Image.fromarray(small.astype(np.uint8)).resize((3000, 2100)), tmp_path / "a.jpg")
    item = Photograph(str(tmp_path), "a.jpg", "eyepacs_natural", "p", 0, "train")
    whole, part = read(Path(), item), read(Path(), item, 1024)
    assert whole.shape == (2100, 3000, 3) and part.shape == (1050, 1500, 3)
    fields = Field(1500, 1050, 1050), Field(750, 525, 525)
    seen = [fundus_square(p, f, size_px=512, grid=16, margin=0.9) for p, f in zip((whole, part), fields, strict=True)]
    assert 0 < np.sqrt(((seen[0] - seen[1]) ** 2).mean()) < 0.05


# -- the thesis' recipe ---------------------------------------------------------------------------------------------------


def test_the_thesis_square_by_hand() -> None:
    """Level 110 with mean 100 and deviation 20 is 0.5; 255 with deviation 1 is clipped; the corners are the mean."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 10:50] = (110, 60, 255)
    square = thesis_square(pixels, Field(30, 20, 20), 32, np.array([100.0, 70.0, 100.0]), np.array([20.0, 20.0, 1.0]))
    assert square.shape == (3, 32, 32) and square.dtype == np.float32
    np.testing.assert_allclose(square[:, 16, 16], (0.5, -0.5, 4))
    inside = square[0] != 0
    assert not inside[0, 0] and inside[0, 16] and inside[16, 0] and inside[5, 5] and not inside[4, 4]
    assert inside.mean() == pytest.approx(np.pi / 4, abs=0.02)


def test_channel_statistics_are_those_of_all_pixels() -> None:
    """A circle of 8 px holds 52 whole pixels (counted by hand: 4 + 6 + 8 * 4 + 6 + 4)."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    columns = [range(2, 6), range(1, 7), *(range(8) for _ in range(4)), range(1, 7), range(2, 6)]
    values = np.array(
        [p[row, column] for p in pictures for row, cells in enumerate(columns) for column in cells], float
    )
    assert len(values) == 3 * 52
    mean, std = statistics([moments(p, Field(4, 4, 4), 8) for p in pictures])
    np.testing.assert_allclose(mean, values.mean(0))
    np.testing.assert_allclose(std, values.std(0))


def test_the_thesis_recipe_standardises_the_training_photographs(kaggle: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "made", eyepacs=kaggle, workers=1, recipe="thesis")
    prepared, facts = load(tmp_path / "made"), json.loads((tmp_path / "made/recipe.json").read_text())
    assert facts["recipe"] == "thesis"
    offset = np.arange(512) - 255.5
    inside = np.hypot(offset[:, None], offset[None]) < 256
    rows = [k for k, item in enumerate(prepared.items) if item.part == "train"]
    assert rows
    values = prepared.images[rows][:, :, inside] / 31.875 - 4
    assert values.min() > -3.9 and values.max() < 3.9  # nothing was clipped
    np.testing.assert_allclose(values.mean((0, 2)), 0, atol=0.02)
    np.testing.assert_allclose(values.std((0, 2)), 1, atol=0.01)
    assert np.unique(prepared.images[:, :, ~inside]).tolist() == [128]
