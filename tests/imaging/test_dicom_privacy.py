"""Nothing that could name a patient leaves a DICOM file: no message, no field of a result, no warning, no log."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_file, write_radiograph, write_segmentation, write_series, write_slice
from pydicom import Dataset, dcmread
from pydicom.datadict import DicomDictionary
from pydicom.sequence import Sequence as Items
from pydicom.uid import BasicTextSRStorage

from osml.imaging import dicom
from osml.imaging.errors import ImagingError
from osml.imaging.read import read_image, read_mask, read_picture
from osml.imaging.volume import Volume

NAME, DAY, NUMBER = "DOEXJANE", "19481231", "4711081547"
SECRETS = (NAME, DAY, NUMBER)
ARRAY = np.random.default_rng(2).integers(0, 4000, (4, 5, 6)).astype(np.int16)
_TEXTS = {"PN": f"{NAME}^X", "DA": DAY, "TM": "101112", "DT": DAY, "AS": "077Y", "UI": f"1.2.826.{NUMBER}"}
_NEEDED = {*dicom.PIXEL_TAGS, *dicom.PLACE_TAGS, "SOPClassUID", "PixelData", "SegmentationType"}
_VALUES = {"NONE", "UN", "OB", "OW", "OF", "OD", "OL", "OV", "SQ", "US", "SS", "UL", "SL", "FL", "FD", "AT", "UV", "SV"}


def secrets() -> dict[str, Any]:
    """A name, a birthday or a number in every tag of the standard's dictionary that holds text, 3,000 of them."""
    out: dict[str, Any] = {}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if keyword and keyword not in _NEEDED and vr.split(" ")[0] not in _VALUES and 2 < (tag >> 16) < 0x7FE0:
            out[keyword] = _TEXTS.get(vr, NUMBER if vr in ("DS", "IS") else NAME)
    return out


TAGS = secrets()


def mixed(folder: Path) -> None:
    write_slice(folder / "z.dcm", ARRAY[0], (0, 0, 99), **{**TAGS, "SeriesInstanceUID": f"1.3.{NUMBER}"})


def again(folder: Path) -> None:
    for k in range(4):
        tags = {**TAGS, "AcquisitionNumber": f"{NUMBER}{k}", "ImageType": [NAME, str(k)]}
        write_slice(folder / f"z{k}.dcm", ARRAY[k], (-10, 20, -40 + 3 * k), **tags)


def patched(tag: str, value: Any) -> Callable[[Path], None]:
    """A needed tag of every file holds a text instead."""

    def patch(folder: Path) -> None:
        for file in folder.iterdir():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = dcmread(file)
                data[tag].VR = "LO"
                data[tag].value = value
                data.save_as(file)

    return patch


FAULTS: dict[str, Callable[[Path], Any]] = {
    "missing": lambda folder: (folder / "IM0002.dcm").unlink(),
    "two series": mixed,
    "4D": again,
    "doubled": lambda folder: write_slice(folder / "z.dcm", ARRAY[0], (-10, 20, -40), **TAGS),
    "report": lambda folder: write_file(
        folder / "z.dcm", ARRAY[0], BasicTextSRStorage, **{**TAGS, "Rows": None, "Columns": None}
    ),
    "private class": lambda folder: write_file(
        folder / "z.dcm", ARRAY[0], f"1.2.826.{NUMBER}", **{**TAGS, "Rows": None, "Columns": None}
    ),
    "place": patched("ImagePositionPatient", [NAME, DAY, NUMBER]),
    "orientation": patched("ImageOrientationPatient", NAME),
    "truncated": lambda folder: (folder / "IM0002.dcm").write_bytes((folder / "IM0002.dcm").read_bytes()[:-9]),
}


def everything(value: object, depth: int = 0) -> str:
    """All texts of a result or error: its fields, those of its cause, its pickled form."""
    texts = [str(value), repr(value), repr(getattr(value, "__dict__", ""))]
    if isinstance(value, ImagingError):
        texts += [repr(value.__reduce__()), repr(value.args)]
        if value.__cause__ is not None and depth < 3:
            texts.append(everything(value.__cause__, depth + 1))
    return "\n".join(texts)


def assert_clean(
    read: Callable[[], object], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> object:
    caplog.set_level(logging.WARNING)
    capfd.readouterr()
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result: object = read()
        except ImagingError as error:
            result = error
    shown = capfd.readouterr()
    texts = [everything(result), caplog.text, shown.out, shown.err, *[str(w.message) for w in caught]]
    for secret in SECRETS:
        assert [text for text in texts if secret in text] == []
    return result


def test_the_secrets_are_in_the_files(tmp_path: Path) -> None:
    raw = write_slice(tmp_path / "x.dcm", ARRAY[0], (0, 0, 0), **TAGS).read_bytes()
    assert len(TAGS) > 1500
    for secret in SECRETS:
        assert raw.count(secret.encode()) > 50


def test_a_good_series(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path, ARRAY, **TAGS)
    volume = assert_clean(lambda: read_image(tmp_path), caplog, capfd)
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.array, ARRAY)


@pytest.mark.parametrize("fault", FAULTS)
def test_refused_series(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "x", ARRAY, **TAGS)
    FAULTS[fault](tmp_path / "x")
    assert isinstance(assert_clean(lambda: read_image(tmp_path / "x"), caplog, capfd), ImagingError)


def test_radiographs(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    good = {**TAGS, "WindowCenter": 2000, "WindowWidth": 500, "VOILUTFunction": "LINEAR"}
    path = write_radiograph(tmp_path / "a.dcm", ARRAY[0].astype(np.uint16), **good)
    assert not isinstance(assert_clean(lambda: read_picture(path), caplog, capfd), ImagingError)
    for name, bad in (("b", {}), ("c", {"PhotometricInterpretation": NAME}), ("d", {"Rows": 99})):
        path = write_radiograph(tmp_path / f"{name}.dcm", ARRAY[0].astype(np.uint16), **{**TAGS, **bad})
        for read in (read_picture, read_image):
            assert_clean(lambda read=read, path=path: read(path), caplog, capfd)  # type: ignore[misc]


def test_segmentations(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    image = read_image(write_series(tmp_path / "x", ARRAY, **TAGS))
    tags = {k: v for k, v in TAGS.items() if k != "MaximumFractionalValue"}
    where = [(-10.0, 20.0, -40.0 + 3 * k) for k in range(4)]
    path = write_segmentation(tmp_path / "s.dcm", ARRAY > 2000, where, [1] * 4, **tags)
    mask = assert_clean(lambda: read_mask(path, image), caplog, capfd)
    assert isinstance(mask, Volume)
    assert np.array_equal(mask.array > 0, ARRAY > 2000)
    beside = write_segmentation(tmp_path / "t.dcm", ARRAY > 2000, [(9, 9, 9)] * 4, [1] * 4, **tags)
    assert isinstance(assert_clean(lambda: read_mask(beside, image), caplog, capfd), ImagingError)


def test_only_named_tags_are_read(tmp_path: Path) -> None:
    header = dicom.read_header(write_slice(tmp_path / "x.dcm", ARRAY[0], (0, 0, 0), **TAGS))
    allowed = {*dicom.PIXEL_TAGS, *dicom.PLACE_TAGS, *dicom.KIND_TAGS, "SpecificCharacterSet"}
    assert {element.keyword for element in header} <= allowed
    assert isinstance(header, Dataset)
    assert not any(isinstance(element.value, Items) for element in header)
