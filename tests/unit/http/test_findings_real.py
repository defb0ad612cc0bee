"""Outlines of a real series, with the real model, against the DICOM segmentation that was made of the same analysis."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from service.config import Settings
from service.http import create_app
from tests.unit.http.test_findings import filled


@pytest.mark.slow
def test_the_outlines_of_a_real_series_are_the_pixels_of_its_segmentation(tmp_path: Path, data: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path / "data", threads=1, free_bytes=0, sync_wait_s=120))
    try:
        client = app.test_client()
        part = '--B0\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
        archive = (data / "dicom" / "ct_lungfcp_0001.zip").read_bytes()
        sent = client.post(
            "/api/v1/analyses",
            data=part.format("request", "").encode()
            + json.dumps({"objects": ["SEG"]}).encode()
            + b"\r\n"
            + part.format("files", '; filename="ct.zip"').encode()
            + archive
            + b"\r\n--B0--\r\n",
            content_type="multipart/form-data; boundary=B0",
        )
        body = sent.get_json()
        assert sent.status_code == 200 and len(body["findings"]) > 1, sent.text
        segmentation = pydicom.dcmread(io.BytesIO(client.get(body["objects"][0]["href"], buffered=True).data))
        held = held_by(segmentation)
        assert held
        outlined: dict[tuple[str, str], np.ndarray] = {}
        for finding in body["findings"]:
            root = f"/api/v1/analyses/{body['id']}/findings/{finding['id']}"
            outline = client.get(f"{root}/region.json").get_json()
            assert outline["in_segmentation"]
            for one in outline["slices"]:
                mask = filled(one["polygons"], (512, 512))
                outlined[finding["tracking_uid"], one["sop_instance_uid"]] = mask
                assert one["area_px"] == mask.sum()
        assert outlined.keys() == held.keys()
        assert all(np.array_equal(outlined[key], held[key]) for key in held)
    finally:
        app.extensions["pellucid"].close()


def held_by(segmentation: pydicom.Dataset) -> dict[tuple[str, str], np.ndarray]:
    """Mask of every frame, by tracking UID of its segment and source image."""
    uids = {one.SegmentNumber: one.TrackingUID for one in segmentation.SegmentSequence}
    frames = np.atleast_3d(segmentation.pixel_array).reshape(-1, segmentation.Rows, segmentation.Columns)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    found = {}
    for groups, frame in zip(segmentation.PerFrameFunctionalGroupsSequence, frames, strict=True):
        holder = groups if "SegmentIdentificationSequence" in groups else shared
        number = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        found[str(uids[number]), str(source)] = frame.astype(bool)
    return found
