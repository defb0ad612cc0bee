"""From the last slice to the report in the archive: a 300-slice chest CT and a fundus photograph, by C-STORE in and out."""

from __future__ import annotations

import copy
import io
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt

from benchmarks.server import free_port, untuned
from service.config import Settings
from training.data import ROOT, shared_data

SLICES = 300
STABLE_S = Settings().series_stable_s
SR = "1.2.840.10008.5.1.4.1.1.88.34"
OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"


class Pacs:
    """A storage SCP that notes when each study's report arrives."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        self._news = threading.Condition()
        ae = AE("BENCH")
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax or "", ExplicitVRLittleEndian)
        self.port = free_port()
        self._server: Any = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    def _store(self, event: Any) -> int:
        if event.request.AffectedSOPClassUID == SR:
            with self._news:
                self.arrived[str(event.dataset.StudyInstanceUID)] = time.perf_counter()
                self._news.notify_all()
        return 0

    def wait(self, study: str, seconds: float) -> float:
        with self._news:
            if not self._news.wait_for(lambda: study in self.arrived, seconds):
                raise TimeoutError(f"no report of {study} within {seconds:g} s")
            return self.arrived[study]

    def stop(self) -> None:
        self._server.shutdown()


@contextmanager
def service(pacs: Pacs) -> Iterator[int]:
    """A running service that delivers reports to the SCP; its DICOM port."""
    destination = {"kind": "dicom", "name": "bench", "host": "127.0.0.1", "port": pacs.port, "ae_title": "BENCH"}
    dicom, http = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **untuned(),
            "PELLUCID_DICOM_PORT": str(dicom),
            "PELLUCID_PORT": str(http),
            "PELLUCID_DATA_DIR": folder,
            "PELLUCID_DESTINATIONS": json.dumps([{**destination, "objects": ["SR", "SEG", "KOS"]}]),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("  model"):
                    break
            yield dicom
        finally:
            process.terminate()
            process.wait(30)


def chest() -> list[Dataset]:
    """300 slices of 1 mm: the real chest, mirrored, and again, so that it goes on without a jump."""
    with zipfile.ZipFile(Path(shared_data()) / "dicom/ct_lungfcp_0001.zip") as archive:
        real = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist())]
    real.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    order = [*range(len(real)), *reversed(range(len(real)))] * 2
    first = float(real[0].ImagePositionPatient[2])
    made = []
    for number, index in enumerate(order[:SLICES]):
        ds = copy.deepcopy(real[index])
        ds.ImagePositionPatient[2] = first + number
        ds.InstanceNumber = number + 1
        made.append(ds)
    return made


def fundus() -> Dataset:
    """A real photograph as an ophthalmic photography instance."""
    picture = Image.open(Path(shared_data()) / "idrid/original/IDRiD_003.jpg").convert("RGB").resize((1600, 1062))
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(OPHTHALMIC)
    ds.PatientID, ds.PatientName, ds.Modality, ds.ImageLaterality = "BENCH", "Bench", "OP", "R"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1062, 1600, 8, 8, 7, 0
    ds.PixelData = picture.tobytes()
    return ds


def send(port: int, instances: list[Dataset]) -> tuple[str, float]:
    """Send as a new study over one association; its UID, and the moment of the last success."""
    study, series = generate_uid(), generate_uid()
    ae = AE("BENCHSCU")
    ae.add_requested_context(instances[0].SOPClassUID, [JPEGLSLossless, ExplicitVRLittleEndian])
    ae.add_requested_context(instances[0].SOPClassUID, instances[0].file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", port, ae_title="PELLUCID")
    assert association.is_established
    for ds in instances:
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, series, generate_uid()
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        assert association.send_c_store(ds).Status == 0
    moment = time.perf_counter()
    association.release()
    return study, moment


def measure(rounds: int) -> dict[str, Any]:
    """Seconds from the last C-STORE's success to the report at its destination."""
    pacs = Pacs()
    cases: dict[str, tuple[list[Dataset], int]] = {
        f"last of {SLICES} CT slices to its report delivered (candidates searched), s": (chest(), max(3, rounds // 2)),
        "fundus photograph to its report delivered, s": ([fundus()], max(9, rounds)),
    }
    found: dict[str, Any] = {}
    try:
        with service(pacs) as port:
            for name, (instances, times) in cases.items():
                seconds = []
                for number in range(times + 1):
                    study, sent = send(port, instances)
                    took = pacs.wait(study, 300) - sent
                    if number:  # the first warms up
                        seconds.append(took)
                stable = STABLE_S if len(instances) > 1 else 0.0
                found[name] = {
                    "p50": round(statistics.median(seconds), 2),
                    "p95": round(float(np.percentile(seconds, 95)), 2),
                    "rounds": times,
                    "of which waiting for late slices": stable,
                }
    finally:
        pacs.stop()
    return found
