"""Radiographs of DICOM and volumes as pictures: what is drawn, kept, and refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_radiograph
from encoder_files import weights_file
from helpers import minimal_schema
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, Cohort
from osml.features import NO_PATH, Features
from osml.features import pictures as module
from osml.features.images import Images, compute_images, image_plans
from osml.features.pictures import draw_planes, radiograph_picture, volume_pictures
from osml.imaging.errors import EmptyMaskError, GeometryError, ImagingError, LabelError, UnreadableError
from osml.nets.images import decode
from osml.schema.images import Mask
from osml.schema.model import Schema
from osml.study.images import _shared

SimpleITK = pytest.importorskip("SimpleITK")
MASK = Mask(column="m", label=None)
# z, y, x; a box of 3 × 8 × 12 voxels, one slice thicker than wide where voxels are 4 mm thick.
SHAPE, BOX = (12, 40, 50), (slice(4, 7), slice(10, 18), slice(20, 32))
SPACING = (1.0, 1.0, 4.0)  # x, y, z


def write(path: Path, array: NDArray[Any], spacing: tuple[float, ...] = SPACING, origin: float = 0.0) -> Path:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((origin, 0.0, 0.0))
    SimpleITK.WriteImage(image, str(path))
    return path


def lesion(label: int = 1) -> NDArray[np.uint8]:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[BOX] = label
    return mask


def volume(folder: Path, name: str = "t2", level: float = 200.0, **settings: Any) -> tuple[Path, Path]:
    """Dark noise, in it the box as bright as `level`, brighter to the right; and its mask."""
    array = np.random.default_rng(3).normal(50, 4, SHAPE)
    array[BOX] = level + 5 * np.arange(12)
    image = write(folder / f"{name}.nii.gz", array.astype(np.float32), **settings)
    return image, write(folder / f"{name}_mask.nii.gz", lesion(), **settings)


def labelled(label: int) -> Mask:
    return Mask(column="m", label=label)


# Radiographs ----------------------------------------


def test_a_picture_file_is_itself(tmp_path: Path) -> None:
    for name in ("a.png", "a.JPG", "a.tif", "gone.jpeg"):
        assert radiograph_picture(tmp_path / name, tmp_path / "cache") == tmp_path / name
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["x.dcm", "IM0001"])
def test_a_radiograph_is_drawn_through_its_window(tmp_path: Path, name: str) -> None:
    values = np.linspace(0, 4000, 48 * 64).reshape(48, 64).astype(np.uint16)
    window = {"WindowCenter": 2000, "WindowWidth": 2000}
    write_radiograph(tmp_path / name, values, **window)
    path = radiograph_picture(tmp_path / name, tmp_path / "cache")
    assert path.suffix == ".png"
    shown = decode(path)
    # PS3.3 C.11.2.1.2.1: linear from centre - 0.5 - (width - 1)/2 over width - 1.
    wanted = np.clip((values - 1999.5) / 1999 + 0.5, 0, 1) * 255
    assert shown.shape == (48, 64, 3)
    assert np.abs(shown - wanted[..., None]).max() <= 1
    write_radiograph(tmp_path / "inverted.dcm", values, PhotometricInterpretation="MONOCHROME1", **window)
    turned = decode(radiograph_picture(tmp_path / "inverted.dcm", tmp_path / "cache"))
    assert turned[0, 0, 0] == 255
    assert turned[-1, -1, 0] == 0


def test_a_radiograph_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_radiograph(tmp_path / "x.dcm", np.arange(400, dtype=np.uint16).reshape(20, 20))
    first = radiograph_picture(tmp_path / "x.dcm", tmp_path / "cache")
    before = first.read_bytes()
    monkeypatch.setattr("osml.imaging.dicom_picture.read_dicom_picture", None)
    assert radiograph_picture(tmp_path / "x.dcm", tmp_path / "cache") == first
    assert first.read_bytes() == before
    monkeypatch.undo()
    write_radiograph(tmp_path / "x.dcm", np.arange(400, dtype=np.uint16)[::-1].reshape(20, 20))
    assert radiograph_picture(tmp_path / "x.dcm", tmp_path / "cache") != first


@pytest.mark.parametrize("name", ["gone.dcm", "gone"])
def test_a_missing_radiograph(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableError, match=f"{name}: no such file"):
        radiograph_picture(tmp_path / name, tmp_path / "cache")


def test_damage_is_an_imaging_error(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "x.dcm", np.arange(400, dtype=np.uint16).reshape(20, 20))
    whole = (tmp_path / "x.dcm").read_bytes()
    for keep in (100, 200, len(whole) - 500):
        (tmp_path / "cut.dcm").write_bytes(whole[:keep])
        with pytest.raises(ImagingError, match=r"cut\.dcm"):
            radiograph_picture(tmp_path / "cut.dcm", tmp_path / "cache")


# Volumes ----------------------------------------


def bright(picture: NDArray[np.uint8]) -> tuple[int, int]:
    """Rows and columns of the bright part."""
    inside = picture > 128
    return int(inside.any(axis=1).sum()), int(inside.any(axis=0).sum())


def test_three_planes_show_the_lesion_with_square_pixels(tmp_path: Path) -> None:
    axial, coronal, sagittal = draw_planes(*volume(tmp_path), MASK)
    # 12 mm along z, 8 along y, 12 along x: in pixels of the finest spacing, 1 mm.
    assert bright(axial) == (8, 12)
    for picture, wanted in ((coronal, (12, 12)), (sagittal, (12, 8))):
        assert all(abs(a - b) <= 2 for a, b in zip(bright(picture), wanted, strict=True)), bright(picture)
    # The cut is a quarter larger than the lesion's longest side, 12 mm, in whole voxels.
    assert axial.shape == (16, 16)
    assert coronal.shape[1] == sagittal.shape[1] == 16
    assert all(s % 4 == 0 and 15 <= s <= 24 for s in (coronal.shape[0], sagittal.shape[0]))
    assert {p.dtype for p in (axial, coronal, sagittal)} == {np.dtype(np.uint8)}


def test_planes_are_those_with_most_of_the_lesion(tmp_path: Path) -> None:
    array = np.full(SHAPE, 50.0, dtype=np.float32)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[3, 10:12, 10:12] = mask[8, 10:30, 10:30] = 1
    array[3], array[8, 10:30, 10:30] = 100, 255
    axial = draw_planes(write(tmp_path / "i.nii.gz", array), write(tmp_path / "m.nii.gz", mask), MASK)[0]
    assert bright(axial) == (20, 20)


def test_grey_values_are_spread_within_the_cut(tmp_path: Path) -> None:
    once = draw_planes(*volume(tmp_path), MASK)
    image, mask = volume(tmp_path, "other")
    data = SimpleITK.ReadImage(str(image))
    SimpleITK.WriteImage(data * 7.0 + 1000.0, str(image))
    for a, b in zip(once, draw_planes(image, mask, MASK), strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1
    assert all(p.min() <= 3 and p.max() >= 252 for p in once)


def test_a_lesion_at_the_border_is_cut_there(tmp_path: Path) -> None:
    array, mask = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), np.zeros(SHAPE, dtype=np.uint8)
    mask[0, 0:8, 0:8] = 1
    pictures = draw_planes(write(tmp_path / "i.nii.gz", array), write(tmp_path / "m.nii.gz", mask), MASK)
    assert pictures[0].shape == (9, 9)
    assert all(min(p.shape) >= 1 for p in pictures)


def test_volumes_are_drawn_once_and_again_for_another_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = volume(tmp_path)
    drawn: list[Path] = []
    whole = module.draw_planes
    monkeypatch.setattr(module, "draw_planes", lambda i, m, b: drawn.append(m) or whole(i, m, b))
    first = volume_pictures(image, mask, MASK, tmp_path / "cache")
    assert (len(first), len(set(first)), drawn) == (3, 3, [mask])
    for path, picture in zip(first, whole(image, mask, MASK), strict=True):
        assert_array_equal(decode(path)[..., 0], picture)
    assert volume_pictures(image, mask, MASK, tmp_path / "cache") == first
    assert drawn == [mask]
    smaller = lesion()
    smaller[:, 15:] = 0
    write(mask, smaller)
    second = volume_pictures(image, mask, MASK, tmp_path / "cache")
    assert drawn == [mask, mask]
    assert not set(second) & set(first)
    # A drawing that was damaged is drawn again.
    second[1].write_bytes(b"x")
    assert volume_pictures(image, mask, MASK, tmp_path / "cache") == second
    assert len(drawn) == 3


def test_labels_are_chosen_as_the_schema_says(tmp_path: Path) -> None:
    image, _ = volume(tmp_path)
    two = lesion()
    two[4, 30:36, 5:9] = 2
    mask = write(tmp_path / "two.nii.gz", two)
    with pytest.raises(LabelError, match=r"two\.nii\.gz"):
        draw_planes(image, mask, MASK)
    first, second = (draw_planes(image, mask, labelled(k))[0] for k in (1, 2))
    assert bright(first) == (8, 12)
    assert second.shape == (8, 8)
    with pytest.raises(LabelError):
        draw_planes(image, mask, labelled(3))


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    image, mask = volume(tmp_path)
    empty = write(tmp_path / "empty.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    with pytest.raises(EmptyMaskError, match=r"empty\.nii\.gz"):
        draw_planes(image, empty, MASK)
    with pytest.raises(GeometryError, match="grids differ"):
        draw_planes(image, write(tmp_path / "moved.nii.gz", lesion(), origin=30.0), MASK)
    with pytest.raises(GeometryError, match="grids differ"):
        draw_planes(image, write(tmp_path / "other.nii.gz", lesion()[:-1]), MASK)
    (tmp_path / "text.nii.gz").write_text("none")
    for pair in ((tmp_path / "text.nii.gz", mask), (image, tmp_path / "text.nii.gz"), (tmp_path / "gone.nrrd", mask)):
        with pytest.raises(ImagingError, match=r"text\.nii\.gz|gone\.nrrd"):
            volume_pictures(*pair, MASK, tmp_path / "cache")


# In a study ----------------------------------------


def schema_of(folder: Path) -> Schema:
    data = copy.deepcopy(minimal_schema())
    data["inputs"]["t2"] = {"kind": "volume", "mask": {"column": "t2_mask"}, "available": "visit"}
    encoder = {"model": "test_efficientnet", "weights": str(weights_file(folder, "test_efficientnet"))}
    data["predictors"] = {"net": {"kind": "network", "inputs": ["t2"], "encoders": {"t2": encoder}}}
    return Schema.model_validate(data)


def computed(folder: Path, images: list[str], masks: list[str]) -> Images:
    schema = schema_of(folder)
    paths = [(path,) if path else () for path in images]
    units = [f"U{i}" for i in range(len(images))]
    return compute_images(schema, list(image_plans(schema).values()), units, {"t2": paths}, {"t2": masks}, folder)


def test_a_volume_is_three_pictures_and_its_faults_are_its_units(tmp_path: Path) -> None:
    volume(tmp_path)
    write(tmp_path / "moved.nii.gz", lesion(), origin=30.0)
    images = ["t2.nii.gz", "t2.nii.gz", "gone.nii.gz", "t2.nii.gz", "", "t2.nii.gz"]
    masks = ["t2_mask.nii.gz", "", "t2_mask.nii.gz", "moved.nii.gz", "t2_mask.nii.gz", "t2_mask.nii.gz"]
    found = computed(tmp_path, images, masks)
    table = next(iter(found.tables.values()))
    assert table.row.tolist() == [0, 0, 0, 5, 5, 5]
    assert_array_equal(table.values()[:3], table.values()[3:])
    assert [(lost.row, lost.input, lost.reason) for lost in found.unusable] == [
        (1, "t2", NO_PATH), (2, "t2", "unreadable"), (3, "t2", "geometry"),
    ]  # fmt: skip
    assert all(lost.detail.startswith(f"U{lost.row}: ") for lost in found.unusable)
    assert "no path of its mask is given" in found.unusable[0].detail
    assert "gone.nii.gz" in found.unusable[1].detail


def test_osml021_two_patients_with_one_volume_but_different_masks(tmp_path: Path) -> None:
    image, _ = volume(tmp_path)
    (tmp_path / "copy.nii.gz").write_bytes(image.read_bytes())
    smaller = lesion()
    smaller[:, 15:] = 0
    write(tmp_path / "other_mask.nii.gz", smaller)
    volume(tmp_path, "own", level=180)
    names = ["t2.nii.gz", "copy.nii.gz", "own.nii.gz"]
    found = computed(tmp_path, names, ["t2_mask.nii.gz", "other_mask.nii.gz", "own_mask.nii.gz"])
    assert found.unusable == ()
    cohort = Cohort(
        ("P0", "P1", "P2"), ("P0", "P1", "P2"), np.zeros(3, dtype=np.intp), {}, {}, {},
        BinaryOutcome(np.array([0.0, 1.0, 0.0]), "yes", "no"), files={"t2": tuple(names)},
    )  # fmt: skip
    loaded = type("Loaded", (), {"schema": schema_of(tmp_path)})()
    told = _shared(loaded, cohort, Features({}, (), {}, found.hashes))
    assert [(f.code, f.subject, f.evidence) for f in told] == [("OSML021", "t2", "P0 and P1 have the same image")]
    one = replace(cohort, patients=("P0", "P0", "P2"))
    assert _shared(loaded, one, Features({}, (), {}, found.hashes)) == []
