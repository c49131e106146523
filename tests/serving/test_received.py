"""Files of one image as they arrive: a DICOM series in several files or a ZIP archive, and what is refused of it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the radiomics extra is not installed")
from dicom_files import write_series
from pydicom.uid import BasicTextSRStorage

from osml.errors import ArchiveError
from osml.imaging.errors import UnreadableError
from osml.imaging.read import read_image
from osml.serving import ImageField
from osml.serving.measure_process import _refused
from osml.serving.received import may_be_series, received

VOLUME = ImageField("t1", "t1", "T1 MRI: image", "volume")
PICTURE = ImageField("xray", "file", "Radiograph: image", "image", several=True)
NAME = "DOE^JANE"


@pytest.fixture
def slices(tmp_path: Path) -> list[bytes]:
    array = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    folder = write_series(tmp_path / "in", array, order=[3, 0, 4, 1, 2], PatientName=NAME)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def zipped(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return sink.getvalue()


def test_slices_and_an_archive_of_them_are_one_series(tmp_path: Path, slices: list[bytes]) -> None:
    names = [f"series/IM{k}" for k in range(len(slices))]
    packed = zipped({**dict(zip(names, slices, strict=True)), "DICOMDIR": b"list"})
    for way, given in (("loose", slices), ("packed", [packed])):
        (tmp_path / way).mkdir()
        (name,) = received(tmp_path / way, VOLUME, given)
        assert name == "t1"
        volume = read_image(tmp_path / way / name)
        assert volume.array.ravel().tolist() == list(range(5 * 6 * 7))
        assert volume.spacing_mm[2] == pytest.approx(3.0)
        assert _refused(tmp_path / way, {"t1": [name]}, 1000) == []
        assert sorted(p.name for p in (tmp_path / way / "t1").iterdir()) == [f"{k:05d}.dcm" for k in range(5)]
    assert may_be_series(slices)
    assert not may_be_series([*slices, b"x"])


def test_an_archive_may_hold_a_single_volume(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="t1: the file is not NIfTI"):
        received(tmp_path, VOLUME, [zipped({"a.nii": b"nothing"})])


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({"a.dcm": b"x", "b.dcm": b"y"}, UnreadableError, "2 files, not all of them DICOM"),
        ({"../a.dcm": b"x"}, ArchiveError, "points outside"),
        ({"a.dcm": bytes(100 * 2**20)}, ArchiveError, "times its packed size"),
        ({"a.zip": zipped({"a": b"1"})}, ArchiveError, "ZIP archive inside"),
    ],
)
def test_archives_that_are_no_series(tmp_path: Path, files: dict[str, bytes], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        received(tmp_path, VOLUME, [zipped(files)])


def test_a_picture_is_not_unpacked(tmp_path: Path, slices: list[bytes]) -> None:
    with pytest.raises(UnreadableError, match="xray: the file is an archive"):
        received(tmp_path, PICTURE, [zipped({"a.png": b"1"})])
    assert received(tmp_path, PICTURE, slices[:2]) == ["xray.dcm", "xray.1.dcm"]


@pytest.mark.parametrize(
    ("tags", "most", "reason", "words"),
    [
        ({"BurnedInAnnotation": "YES"}, 10_000, "burned_in", "burned into the pixels"),
        ({"SOPClassUID": BasicTextSRStorage}, 10_000, "unreadable", "Basic Text SR Storage, which is not read"),
        ({"SOPClassUID": "1.2.3.19740131"}, 10_000, "unreadable", "unknown kind, which is not read"),
        ({}, 50, "too_large", "210 voxels are declared"),
    ],
)
def test_series_that_are_refused(tmp_path: Path, tags: dict[str, Any], most: int, reason: str, words: str) -> None:
    write_series(tmp_path / "t1", np.zeros((5, 6, 7), dtype=np.int16), PatientName=NAME, **tags)
    (found,) = _refused(tmp_path, {"t1": ["t1"]}, most)
    assert found["reason"] == reason
    assert words in found["detail"]
    assert NAME not in found["detail"]
    assert "19740131" not in found["detail"]
    assert str(tmp_path) not in found["detail"]


def test_pixels_that_are_stored_in_another_way_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "t1", np.zeros((5, 6, 7), dtype=np.int16))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.6\0"))
    (found,) = _refused(tmp_path, {"t1": ["t1"]}, 1000)
    assert "stored as" in found["detail"]
    assert "which is not read" in found["detail"]


@pytest.mark.full
def test_a_series_gives_what_the_same_volume_as_nifti_gives(tmp_path: Path) -> None:
    for package in ("SimpleITK", "numba", "pywt"):
        pytest.importorskip(package, reason="the radiomics extra is not installed")
    import SimpleITK
    from imaged import serve_images

    from osml.serving import load

    run = serve_images(tmp_path, missing="impute")
    model = load(run, "radscore")
    values = np.random.default_rng(4).integers(80, 160, (14, 20, 20)).astype(np.int16)
    series = write_series(tmp_path / "series", values, step=2.0, PixelSpacing=[1.5, 1.5], PatientName=NAME)
    grid = read_image(series)
    mask = np.zeros(values.shape, dtype=np.uint8)
    mask[4:9, 6:14, 6:14] = 1
    files = {}
    for key, array in (("t1", values), ("t1.mask", mask)):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(grid.spacing_mm)
        image.SetOrigin(grid.origin_mm)
        SimpleITK.WriteImage(image, str(tmp_path / f"{key}.nii.gz"))
        files[key] = tmp_path / f"{key}.nii.gz"
    expected = model.predict_images({}, files)
    assert expected.ok, expected.status
    slices = [path.read_bytes() for path in sorted(series.iterdir())]
    packed = zipped({path.name: path.read_bytes() for path in series.iterdir()})
    for given in (slices, packed):
        found = model.predict_images({}, {**files, "t1": given})
        assert found.ok, found.status
        assert found.p == pytest.approx(expected.p)
    bad = model.predict_images({}, {**files, "t1": zipped({"../x": b"1"})})
    assert bad.status.startswith("t1: ")
    assert "points outside" in bad.status


def test_files_that_are_too_large_together_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{k}.dcm" for k in range(3)]
    for file in files:
        with file.open("wb") as stream:
            stream.truncate(200 * 2**20)  # a hole: no byte of it is stored
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path.name} was read"))
    with pytest.raises(UnreadableError, match="t1: 600 MB; at most 512 MB") as error:
        received(tmp_path, VOLUME, files)
    assert str(tmp_path) not in str(error.value)
