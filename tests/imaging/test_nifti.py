"""NaN in a NIfTI file is refused: the reader would hand it on as zeros."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from osml.imaging.errors import NonFiniteError
from osml.imaging.read import read_image, read_mask

SimpleITK = pytest.importorskip("SimpleITK")


def write(path: Path, array: np.ndarray, bad: int) -> Path:
    """A NIfTI file whose first `bad` voxels are NaN, put there behind the writer's back."""
    plain = path.with_name("plain.nii")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(plain))
    raw = bytearray(plain.read_bytes())
    if bad:
        raw[352 : 352 + bad * array.itemsize] = np.full(bad, np.nan, array.dtype).tobytes()
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_nan_is_counted_and_refused(tmp_path: Path, name: str, kind: str) -> None:
    array = np.arange(24, dtype=kind).reshape(2, 3, 4)
    with pytest.raises(NonFiniteError, match="5 of 24 voxels are NaN or infinite") as caught:
        read_image(write(tmp_path / name, array, bad=5))
    assert name in str(caught.value)
    assert np.array_equal(read_image(write(tmp_path / name, array, bad=0)).array, array)


def test_whole_numbers_have_no_nan(tmp_path: Path) -> None:
    array = np.array([[[0, 1], [0x7FC0, 1]]], dtype=np.int16)
    assert np.array_equal(read_mask(write(tmp_path / "m.nii.gz", array, bad=0)).array, array)
