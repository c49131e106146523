"""Reading images and masks, and refusing what does not fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osml.imaging.errors import (
    DimensionError,
    DirectionError,
    EmptyMaskError,
    GeometryError,
    ImagingError,
    LabelError,
    NonFiniteError,
    UnreadableError,
)  # fmt: skip
from osml.imaging.masks import align, check_finite, choose_label
from osml.imaging.read import read_image, read_mask
from osml.imaging.volume import Volume, from_sitk, simple_itk, to_sitk

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
TURNED = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_volumes_keep_their_grid(tmp_path: Path, suffix: str) -> None:
    volume = Volume(ARRAY, (0.5, 0.75, 3), (1, -2, 30), TURNED)
    path = tmp_path / f"x{suffix}"
    simple_itk().WriteImage(to_sitk(volume), str(path))
    found = read_image(path)
    assert found.array.dtype == np.float64
    assert np.array_equal(found.array, ARRAY)
    assert found.spacing_mm == pytest.approx(volume.spacing_mm)
    assert found.origin_mm == pytest.approx(volume.origin_mm)
    assert found.direction == pytest.approx(TURNED)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures(tmp_path: Path, suffix: str) -> None:
    grey = (np.arange(20, dtype=np.uint16) * 3000).reshape(4, 5)
    Image.fromarray(grey).save(tmp_path / f"x{suffix}")
    assert np.array_equal(read_image(tmp_path / f"x{suffix}").array, grey)


def test_channels_of_a_colour_picture(tmp_path: Path) -> None:
    colour = np.zeros((3, 4, 3), dtype=np.uint8)
    colour[..., 0], colour[..., 1], colour[..., 2] = 10, 20, 30
    Image.fromarray(colour).save(tmp_path / "x.png")
    means = [read_image(tmp_path / "x.png", channel=c).array.mean() for c in ("red", "green", "blue", "grey")]
    assert means == pytest.approx([10, 20, 30, 0.299 * 10 + 0.587 * 20 + 0.114 * 30])


def test_unreadable_files(tmp_path: Path) -> None:
    for name, content in (("a.nii.gz", b"no"), ("a.png", b"no"), ("a.doc", b"no")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableError, match=name):
            read_image(tmp_path / name)
    for name in ("b.nrrd", "b.jpg"):
        with pytest.raises(UnreadableError, match="no such file"):
            read_image(tmp_path / name)


def test_series_of_volumes_are_refused(tmp_path: Path) -> None:
    sitk = simple_itk()
    stack = sitk.JoinSeries([to_sitk(Volume(ARRAY))] * 2)
    sitk.WriteImage(stack, str(tmp_path / "x.nrrd"))
    with pytest.raises(DimensionError, match="4D"):
        read_image(tmp_path / "x.nrrd")


def test_vector_images_are_refused() -> None:
    image = simple_itk().GetImageFromArray(np.zeros((4, 5, 3)), isVector=True)
    with pytest.raises(DimensionError, match="3 channels"):
        from_sitk(image)


def test_a_sheared_grid_is_refused() -> None:
    with pytest.raises(DirectionError, match="not orthonormal"):
        Volume(ARRAY, direction=(1, 0.1, 0, 0, 1, 0, 0, 0, 1))


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -1), (1, 1, float("nan"))])
def test_wrong_spacing_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(DimensionError, match="spacing"):
        Volume(ARRAY, spacing)


def test_nan_is_refused_with_its_number() -> None:
    with pytest.raises(NonFiniteError, match="2 of 3 voxels"):
        check_finite(Volume(np.array([[np.nan, 1.0, np.inf]])))


@pytest.mark.parametrize(
    "mask",
    [
        Volume(ARRAY[:1], (1, 1, 5)),
        Volume(ARRAY, (1, 1, 4)),
        Volume(ARRAY, (1, 1, 5), (0, 0, 115)),
        Volume(ARRAY, (1, 1, 5), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, -1)),
        Volume(ARRAY[0]),
    ],
    ids=["size", "spacing", "origin", "direction", "2D"],
)
def test_another_grid_is_refused_with_both_printed(mask: Volume) -> None:
    image = Volume(ARRAY, (1, 1, 5), name="t1.nii.gz")
    with pytest.raises(GeometryError) as caught:
        align(image, mask)
    text = str(caught.value)
    assert image.grid() in text
    assert mask.grid() in text
    assert "t1.nii.gz" in text


def test_a_drift_below_half_a_voxel_is_aligned_and_told() -> None:
    image = Volume(ARRAY, (1, 1, 5))
    moved, drift = align(image, Volume(ARRAY, (1, 1, 5), (0.1, 0, 1.0)))
    assert drift == pytest.approx(0.2)
    assert moved.origin_mm == image.origin_mm


@pytest.mark.parametrize("value", [1, 255, 1 / 255, 0.0039])
def test_the_only_label_needs_no_name(value: float) -> None:
    assert choose_label(Volume(np.array([[0, value]]))).array.tolist() == [[False, True]]


def test_labels() -> None:
    mask = Volume(np.array([[0, 1, 2]]), name="m.nrrd")
    assert choose_label(mask, 2).array.tolist() == [[False, False, True]]
    with pytest.raises(LabelError, match="labels 1, 2 exist"):
        choose_label(mask)
    with pytest.raises(LabelError, match="label 3 is not in the mask; labels found: 1, 2"):
        choose_label(mask, 3)
    with pytest.raises(EmptyMaskError, match=r"m\.nrrd"):
        choose_label(mask.like(mask.array * 0))


def test_windows_keep_their_place() -> None:
    volume = Volume(ARRAY, (0.5, 2, 3), (1, 1, 1), TURNED)
    cut = volume.window(np.array([1, 1, 2]), np.array([2, 3, 4]))
    assert np.array_equal(cut.array, ARRAY[1:2, 1:3, 2:4])
    assert cut.origin_mm == pytest.approx(to_sitk(volume).TransformIndexToPhysicalPoint((2, 1, 1)))


def test_a_picture_mask(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert choose_label(read_mask(tmp_path / "m.png")).array.tolist() == [[False, True]]


def test_reasons_survive_a_process_border() -> None:
    kinds = ImagingError.__subclasses__()
    assert len({kind.reason for kind in kinds}) == len(kinds) >= 13
    copy = pickle.loads(pickle.dumps(GeometryError("a", do="b")))  # noqa: S301
    assert (copy.reason, str(copy)) == ("geometry", "a\n  b")
