"""The quality gate on real photographs, on photographs made worse in a known way, and on pictures of other things."""

from __future__ import annotations

import csv
import io
import time
import zipfile
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from service.intake import circle
from service.intake.fundus_quality import Measures, assess, measure
from service.intake.sandbox import Sandbox

BAD = Path(__file__).parents[3] / "training" / "retina" / "bad_photographs.csv"


def codes(photograph: np.ndarray) -> set[str]:
    found = assess(photograph)
    assert found.gradable == (not found.reasons) == (found.score >= 0.5)
    assert all(reason["message"] and reason["retake"] for reason in found.reasons)
    return {reason["code"] for reason in found.reasons}


def sample(archive: Path, count: int) -> dict[str, np.ndarray]:
    """Photographs spread evenly over an archive, by name, without those that are listed as really bad."""
    with BAD.open(encoding="utf-8") as stream:
        bad = {row["file"] for row in csv.DictReader(stream)}
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.endswith(".jpg") and name not in bad)
        return {
            name: np.asarray(Image.open(io.BytesIO(opened.read(name))).convert("RGB"))
            for name in names[:: len(names) // count]
        }


@pytest.fixture(scope="module")
def idrid(data: Path) -> dict[str, np.ndarray]:
    return sample(data / "idrid" / "grading.zip", 9)


@pytest.fixture(scope="module")
def eyepacs(data: Path) -> dict[str, np.ndarray]:
    return sample(data / "eyepacs" / "raw_pairs_512.zip", 9)


def synthetic(
    width: int = 600, height: int = 600, radius: float = 280.0, x: float = 300.0, y: float = 300.0
) -> np.ndarray:
    """An orange disc with vessels, a pale disc and grain on black."""
    random = np.random.default_rng(0)
    image = Image.new("RGB", (width, height), (150, 75, 30))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        start, end = random.uniform(0, max(width, height), (2, 2))
        draw.line([*start, *end], fill=(130, 35, 18), width=int(random.integers(2, 6)))
    draw.ellipse([x + 120, y - 40, x + 190, y + 40], fill=(240, 200, 120))
    pixels = np.asarray(image).astype(float) + random.normal(0, 4, (height, width, 3))
    rows, columns = np.mgrid[0:height, 0:width]
    inside = np.hypot(columns - x, rows - y) < radius
    return np.clip(np.where(inside[:, :, None], pixels, 3), 0, 255).astype(np.uint8)


class TestCircle:
    @pytest.mark.parametrize(("x", "y", "radius"), [(300, 300, 280), (310.5, 288, 250), (300, 300, 350)])
    def test_known_circle(self, x: float, y: float, radius: float) -> None:
        found = circle.find(synthetic(x=x, y=y, radius=radius))
        assert found is not None
        assert (found.x, found.y, found.radius) == pytest.approx((x, y, radius), abs=2)
        assert found.roundness > 0.9

    def test_share_cut_off(self) -> None:
        """A chord at half the radius cuts off (pi/3 - sqrt(3)/4) / pi = 19.6 % of a circle; one through the centre half."""
        whole = synthetic()
        for kept, share in ((300 - 140, 0.1955), (300, 0.5)):
            found = circle.find(whole[:, kept:])
            assert found is not None
            assert found.cut_off == pytest.approx(share, abs=0.02)
        uncut = circle.find(whole)
        assert uncut is not None
        assert uncut.cut_off == 0

    def test_no_circle(self) -> None:
        assert circle.find(np.zeros((300, 300, 3), np.uint8)) is None
        assert circle.find(np.full((300, 300, 3), 200, np.uint8)) is None


class TestPhotographs:
    """A few of them here; all of them are judged by ``python -m training.retina.quality``."""

    def test_real_photographs_are_gradable(self, idrid: dict[str, np.ndarray], eyepacs: dict[str, np.ndarray]) -> None:
        photographs = {**idrid, **eyepacs}
        assert len(photographs) >= 18
        judged = {name: codes(photograph) for name, photograph in photographs.items()}
        assert {name: found for name, found in judged.items() if found} == {}

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("1051_left", "too_dark"),
            ("1133_left", "too_dark"),
            ("1061_right", "too_bright"),
            ("1037_right", "artefact"),
            ("157_left", "artefact"),
        ],
    )
    def test_real_photographs_that_are_not(self, name: str, code: str, data: Path) -> None:
        with zipfile.ZipFile(data / "eyepacs" / "raw_pairs_512.zip") as opened:
            photograph = np.asarray(Image.open(io.BytesIO(opened.read(f"{name}.jpg"))).convert("RGB"))
        assert codes(photograph) == {code}

    def test_white_that_belongs_to_the_retina_is_no_artefact(self, data: Path) -> None:
        """Myelinated nerve fibres beside the disc, white and without vessels."""
        with zipfile.ZipFile(data / "eyepacs" / "raw_pairs_512.zip") as opened:
            photograph = np.asarray(Image.open(io.BytesIO(opened.read("1145_left.jpg"))).convert("RGB"))
        assert codes(photograph) == set()

    @pytest.mark.parametrize("gain", [3, 5])
    def test_overexposed_is_not_called_something_else(self, eyepacs: dict[str, np.ndarray], gain: float) -> None:
        for photograph in list(eyepacs.values())[::2]:
            assert "too_bright" in codes(np.clip(photograph * float(gain), 0, 255).astype(np.uint8))

    def test_untouched_file_of_a_camera(self, data: Path, sandbox: Sandbox) -> None:
        for instance in sandbox.inspect(sorted((data / "idrid" / "original").glob("*.jpg"))):
            for longest in (2048, 512):
                assert codes(sandbox.photograph(instance, longest)) == set()

    def test_made_worse(self, idrid: dict[str, np.ndarray]) -> None:
        for photograph in list(idrid.values())[::6]:
            field = circle.find(photograph)
            assert field is not None
            blurred = Image.fromarray(photograph).filter(ImageFilter.GaussianBlur(0.02 * field.radius))
            assert codes(np.asarray(blurred)) == {"out_of_focus"}
            for gain in (0.2, 0.1):
                assert codes((photograph * gain).astype(np.uint8)) == {"too_dark"}
            assert "too_bright" in codes(np.clip(photograph * 3.0, 0, 255).astype(np.uint8))
            assert "field_cut_off" in codes(photograph[:, round(field.x - 0.4 * field.radius) :])
            assert "field_cut_off" in codes(photograph[: round(field.y + 0.3 * field.radius)])

    def test_sharpness_does_not_depend_on_the_number_of_pixels(self, idrid: dict[str, np.ndarray]) -> None:
        photograph = Image.fromarray(next(iter(idrid.values())))
        scores = [
            assess(np.asarray(photograph.resize((round(832 * f), round(695 * f)), Image.Resampling.LANCZOS))).score
            for f in (0.6, 1, 2)
        ]
        assert max(scores) - min(scores) < 0.1


class TestArtefacts:
    """Parts of a drawing are hidden; the share of a disc beyond a chord at c radii is (acos c - c sqrt(1 - c^2)) / pi."""

    @staticmethod
    def beyond(chord: float) -> float:
        return float(np.arccos(chord) - chord * np.sqrt(1 - chord**2)) / np.pi

    @staticmethod
    def found(photograph: np.ndarray) -> Measures:
        field = circle.find(photograph)
        assert field is not None
        return measure(photograph, field)

    def test_shadow(self) -> None:
        """From x = 340 to 452 the light falls to 0.3: it passes 0.4 at 6/7 of the way, x = 436."""
        drawing = synthetic()
        weight = np.clip((np.arange(600) - 340) / 112, 0, 1)[None, :, None]
        shaded = (drawing * (1 - 0.7 * weight)).astype(np.uint8)
        assert self.found(shaded).shadow == pytest.approx(self.beyond(136 / 252), abs=0.03)
        assert codes(shaded) == {"artefact"}

    def test_stray_light(self) -> None:
        """The median of the light is near 148; a mixture with 230 is 1.3 times that from a weight of 0.54 on, at x = 430."""
        drawing = synthetic()
        inside = np.hypot(*(np.mgrid[0:600, 0:600] - 300)) < 280
        weight = np.clip((np.arange(600) - 370) / 112, 0, 1)[None, :, None] * inside[:, :, None]
        veiled = (drawing * (1 - weight) + weight * (225, 230, 210)).astype(np.uint8)
        assert self.found(veiled).veil == pytest.approx(self.beyond(130 / 252), abs=0.03)
        assert "artefact" in codes(veiled)
        assert self.found(drawing).veil == self.found(drawing).shadow == 0


class TestOtherPictures:
    def not_a_fundus(self, picture: np.ndarray) -> bool:
        return codes(picture) == {"not_a_fundus"}

    def test_ct_slices_drawn_grey(self, data: Path, sandbox: Sandbox) -> None:
        folder = data / "dicom" / "transfer_syntaxes"
        for instance in sandbox.inspect(
            [folder / "CT_original.dcm", folder / "CT2_J2KR", folder / "ct_lungfcp_htj2k_201.dcm"]
        ):
            slice_hu = sandbox.hounsfield(instance)
            for low, high in ((-1350, 150), (-160, 240), (-3024, 400)):
                grey = np.clip((slice_hu - low) / (high - low) * 255, 0, 255).astype(np.uint8)
                assert self.not_a_fundus(np.repeat(grey[:, :, None], 3, axis=2))

    def test_round_ct_slice_drawn_with_a_warm_colour_table(self, data: Path, sandbox: Sandbox) -> None:
        """Round, warm and sharp, but one number a pixel; only the black point of the table is not on its line."""
        [instance] = sandbox.inspect([data / "dicom" / "transfer_syntaxes" / "CT_original.dcm"])
        value = np.clip((sandbox.hounsfield(instance) + 3024) / 4400, 0, 1)[:, :, None]
        assert self.not_a_fundus((value * (250, 160, 100)).astype(np.uint8))

    @pytest.mark.parametrize("table", ["jet", "hot", "copper", "turbo"])
    def test_round_ct_slice_in_a_colour_table(self, data: Path, sandbox: Sandbox, table: str) -> None:
        [instance] = sandbox.inspect([data / "dicom" / "transfer_syntaxes" / "CT_original.dcm"])
        for low, high in ((-1350, 150), (-160, 240)):
            value = np.clip((sandbox.hounsfield(instance) - low) / (high - low), 0, 1)
            coloured = (255 * matplotlib.colormaps[table](value)[:, :, :3]).astype(np.uint8)
            rows, columns = np.mgrid[0 : coloured.shape[0], 0 : coloured.shape[1]]
            radius = 0.47 * coloured.shape[0]
            coloured[np.hypot(rows - coloured.shape[0] / 2, columns - coloured.shape[1] / 2) > radius] = 0
            assert codes(coloured), f"{table} {low}"
            if table != "hot":
                assert self.not_a_fundus(coloured)

    def test_mednist(self, data: Path) -> None:
        images = np.load(data / "mednist" / "mednist_2400.npz")["images"][::80]
        for image in images:
            enlarged = np.asarray(Image.fromarray(image.astype(np.uint8)).convert("RGB").resize((256, 256)))
            assert self.not_a_fundus(enlarged)

    def test_made_pictures(self) -> None:
        random = np.random.default_rng(0)
        rows, columns = np.mgrid[0:600, 0:800]
        landscape = np.where(
            (rows < 320 + 40 * np.sin(columns / 90))[:, :, None], (120, 170, 240), (60, 140, 50)
        ) + random.normal(0, 9, (600, 800, 3))
        page = Image.new("RGB", (800, 1000), "white")
        draw = ImageDraw.Draw(page)
        for line in range(55):
            draw.text((40, 40 + 16 * line), "Findings: the quick brown fox jumps over the lazy dog. " * 2, fill="black")
        pictures = {
            "noise": random.integers(0, 256, (600, 800, 3)),
            "flat": np.full((600, 800, 3), (200, 90, 30)),
            "landscape": np.clip(landscape, 0, 255),
            "page": np.asarray(page),
            "tiny": synthetic()[::8, ::8],
            "orange square": np.pad(
                np.full((300, 300, 3), (200, 90, 30)) + random.integers(0, 30, (300, 300, 3)),
                ((150, 150), (150, 150), (0, 0)),
            ),
        }
        assert [name for name, picture in pictures.items() if not self.not_a_fundus(picture.astype(np.uint8))] == []
        assert codes(np.zeros((300, 300, 3), np.uint8)) == {"too_dark"}
        assert codes(np.full((300, 300, 3), 255, np.uint8)) == {"not_a_fundus"}

    def test_what_the_gate_wants(self) -> None:
        """The same drawing passes, and is refused with one property changed."""
        drawing = synthetic()
        assert codes(drawing) == set()
        assert codes(drawing[:, :, ::-1]) == {"not_a_fundus"}, "blue where red should be"
        assert codes(np.repeat(drawing[:, :, 1:2], 3, axis=2)) == {"not_a_fundus"}, "grey"
        opaque = drawing.copy()
        opaque[:, :, 0] = np.minimum(2 * drawing[:, :, 1], 255)
        assert codes(opaque) == {"not_a_fundus"}, "vessels that red light does not shine through"

    def test_within_a_second(self) -> None:
        """Processor time for 12 megapixels."""
        large = np.asarray(Image.fromarray(synthetic()).resize((4000, 3000)))
        start = time.process_time()
        assess(large)
        assert time.process_time() - start < 1
