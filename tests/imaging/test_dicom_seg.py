"""DICOM segmentations on their image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import item, place, write_file, write_segmentation, write_series, write_slice
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import RTStructureSetStorage

from osml.imaging.errors import EmptyMaskError, GeometryError, ImagingError, LabelError, UnreadableError
from osml.imaging.masks import align, choose_label
from osml.imaging.read import read_image, read_mask
from osml.imaging.volume import Volume

RNG = np.random.default_rng(3)
SHAPE = (6, 5, 8)
LESION = RNG.random(SHAPE) < 0.4
LESION[[0, 5]] = False
POSITIONS = [(-10.0, 20.0, -40.0 + 3 * k) for k in range(6)]


@pytest.fixture
def image(tmp_path: Path) -> Volume:
    return read_image(write_series(tmp_path / "series", RNG.integers(0, 99, SHAPE).astype(np.int16)))


def test_frames_are_placed_by_their_position(tmp_path: Path, image: Volume) -> None:
    order = [3, 1, 4, 2]
    path = write_segmentation(tmp_path / "s.dcm", LESION[order], [POSITIONS[k] for k in order], [1] * 4)
    mask = read_mask(path, image)
    assert np.array_equal(mask.array, LESION.astype(int))
    assert align(image, mask)[1] == 0
    assert np.array_equal(choose_label(mask).array, LESION)


def test_segment_numbers_are_labels(tmp_path: Path, image: Volume) -> None:
    other = ~LESION
    other[[0, 5]] = False
    frames, where = np.concatenate([LESION[1:5], other[1:5]]), POSITIONS[1:5] * 2
    path = write_segmentation(tmp_path / "s.dcm", frames, where, [2] * 4 + [7] * 4)
    assert np.array_equal(read_mask(path, image).array, 2 * LESION + 7 * other)
    assert np.array_equal(read_mask(path, image, label=7).array, 7 * other)
    with pytest.raises(LabelError, match=r"segment 3 is not in the mask; segments found: 2, 7"):
        read_mask(path, image, label=3)


def test_overlapping_segments_need_a_choice(tmp_path: Path, image: Volume) -> None:
    organ = np.ones(SHAPE[1:], dtype=bool)
    path = write_segmentation(tmp_path / "s.dcm", np.stack([organ, LESION[2]]), [POSITIONS[2]] * 2, [1, 2])
    with pytest.raises(LabelError, match=f"1 and 2 in {LESION[2].sum()} voxels"):
        read_mask(path, image)
    assert np.array_equal(read_mask(path, image, label=2).array[2] > 0, LESION[2])


def test_a_frame_may_cover_a_part_of_the_slice(tmp_path: Path, image: Volume) -> None:
    corner = (POSITIONS[2][0] + 2 * 0.75, POSITIONS[2][1] + 1 * 0.5, POSITIONS[2][2])
    mask = read_mask(write_segmentation(tmp_path / "s.dcm", LESION[2:3, 1:4, 2:7], [corner], [1]), image)
    assert np.array_equal(mask.array[2, 1:4, 2:7], LESION[2, 1:4, 2:7])
    assert mask.array.sum() == LESION[2, 1:4, 2:7].sum()


def test_storage_order_does_not_matter(tmp_path: Path, image: Volume) -> None:
    """The same image as a converter may store it: rows and slices reversed, columns and rows exchanged."""
    path = write_segmentation(tmp_path / "s.dcm", LESION, POSITIONS, [1] * 6)
    (sx, sy, sz), (x, y, z) = image.spacing_mm, image.origin_mm
    flipped = Volume(
        image.array[::-1, ::-1], image.spacing_mm, (x, y + 4 * sy, z + 5 * sz), (1, 0, 0, 0, -1, 0, 0, 0, -1)
    )
    assert np.array_equal(read_mask(path, flipped).array > 0, LESION[::-1, ::-1])
    turned = Volume(image.array.transpose(0, 2, 1), (sy, sx, sz), image.origin_mm, (0, 1, 0, 1, 0, 0, 0, 0, 1))
    assert np.array_equal(read_mask(path, turned).array > 0, LESION.transpose(0, 2, 1))


def test_a_real_segmentation(tmp_path: Path) -> None:
    """One frame of the liver of a CT, as its writer stored it; the grid is that of the frame itself."""
    path = tmp_path / "liver.dcm"
    data = dcmread(str(get_testdata_file("liver_1frame.dcm")))
    # The sample was cut to its first frame, the places of the others were left.
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:1]
    data.save_as(path)
    groups = data.PerFrameFunctionalGroupsSequence[0], data.SharedFunctionalGroupsSequence[0]
    row, column = map(float, groups[1].PixelMeasuresSequence[0].PixelSpacing)
    origin = np.array(groups[0].PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    x, y = np.reshape(np.array(groups[1].PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float), (2, 3))
    normal = np.cross(x, y)
    image = Volume(
        np.zeros((3, data.Rows, data.Columns)), (column, row, 1.5), tuple(origin - 1.5 * normal),
        tuple(np.column_stack([x, y, normal]).ravel()),
    )  # fmt: skip
    mask = read_mask(path, image)
    assert np.array_equal(mask.array[1], data.pixel_array)
    assert mask.array.sum() == data.pixel_array.sum() > 1000


@pytest.mark.parametrize("background", [None, 9])
def test_a_label_map(tmp_path: Path, image: Volume, background: int | None) -> None:
    labels = RNG.integers(0, 4, SHAPE).astype(np.uint8)
    stored = np.where(labels == 0, background or 0, labels).astype(np.uint8)
    path = write_segmentation(
        tmp_path / "s.dcm", stored, POSITIONS, [1] * 6, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7",
        SegmentationType="LABELMAP", BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=stored.tobytes(),
        PixelPaddingValue=background,
    )  # fmt: skip
    assert np.array_equal(read_mask(path, image).array, labels)
    assert np.array_equal(read_mask(path, image, label=2).array, 2 * (labels == 2))
    with pytest.raises(LabelError, match="segments found: 1, 2, 3"):
        read_mask(path, image, label=8)


def fractional(path: Path, values: Any) -> Path:
    frames = np.asarray(values, dtype=np.uint8)
    return write_segmentation(
        path, frames, POSITIONS[: len(frames)], [1] * len(frames), SegmentationType="FRACTIONAL",
        MaximumFractionalValue=200, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=frames.tobytes(),
    )  # fmt: skip


def test_fractions_are_refused_unless_all_or_nothing(tmp_path: Path, image: Volume) -> None:
    assert np.array_equal(read_mask(fractional(tmp_path / "a.dcm", LESION * 200), image).array > 0, LESION)
    with pytest.raises(UnreadableError, match=rf"fractional segmentation, {LESION.sum()} pixels between"):
        read_mask(fractional(tmp_path / "b.dcm", LESION * 120), image)


def shifted(dx: float = 0, dz: float = 0, **groups: Any) -> dict[str, Any]:
    return {"positions": [(p[0] + dx, p[1], p[2] + dz) for p in POSITIONS], "groups": groups}


@pytest.mark.parametrize(
    "changes, message",
    [
        (shifted(dx=0.3), "grids differ"),
        (shifted(dz=1.5), r"first pixel would be voxel 0 0 1\.5"),
        (shifted(dz=300), "segmentation leaves the image"),
        (shifted(dz=-9), "segmentation leaves the image"),
        (shifted(spacing=(0.5, 0.5)), "grids differ"),
        (shifted(orientation=(0.0, 1.0, 0.0, 0.0, 0.0, 1.0)), "grids differ"),
        (shifted(orientation=(0.9848, 0.1736, 0.0, -0.1736, 0.9848, 0.0)), "grids differ"),
    ],
)
def test_another_grid_is_refused(tmp_path: Path, image: Volume, changes: dict[str, Any], message: str) -> None:
    path = write_segmentation(tmp_path / "s.dcm", LESION, segments=[1] * 6, **changes)
    with pytest.raises(GeometryError, match=message) as caught:
        read_mask(path, image)
    assert image.grid() in str(caught.value)
    assert "s.dcm: frame" in str(caught.value)


def test_thicker_slices_are_refused(tmp_path: Path) -> None:
    thin = read_image(write_series(tmp_path / "thin", np.zeros((12, 5, 8), dtype=np.int16), step=1.5))
    with pytest.raises(GeometryError, match="none of them neighbours"):
        read_mask(write_segmentation(tmp_path / "s.dcm", LESION, POSITIONS, [1] * 6), thin)


def test_a_segmentation_needs_its_image(tmp_path: Path) -> None:
    path = write_segmentation(tmp_path / "s.dcm", LESION, POSITIONS, [1] * 6)
    with pytest.raises(GeometryError, match="no image is given"):
        read_mask(path)
    with pytest.raises(GeometryError, match="picture is 2D"):
        read_mask(path, Volume(np.zeros((5, 8)), name="picture"))


def test_what_is_no_mask_is_refused(tmp_path: Path, image: Volume) -> None:
    contours = write_file(
        tmp_path / "c.dcm", LESION[0].astype(np.uint8), RTStructureSetStorage, Rows=None, Columns=None
    )
    empty = write_segmentation(tmp_path / "e.dcm", LESION & False, POSITIONS, [1] * 6)
    lost = write_segmentation(
        tmp_path / "l.dcm", LESION, POSITIONS, [1] * 6, PerFrameFunctionalGroupsSequence=[place((0, 0, 0), 1)]
    )
    nameless = write_segmentation(
        tmp_path / "n.dcm", LESION, POSITIONS, [1] * 6,
        PerFrameFunctionalGroupsSequence=[place(p) for p in POSITIONS],
    )  # fmt: skip
    nowhere = write_segmentation(
        tmp_path / "w.dcm", LESION, POSITIONS, [1] * 6,
        PerFrameFunctionalGroupsSequence=[item(SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)])] * 6,
    )  # fmt: skip
    cases: list[tuple[Path, type[ImagingError], str]] = [
        (contours, UnreadableError, r"c\.dcm: contours \(RT Structure Set\), not voxels"),
        (empty, EmptyMaskError, r"e\.dcm: nothing is segmented"),
        (lost, UnreadableError, "6 frames, 1 of them with a place"),
        (nameless, UnreadableError, "frame 1 names no segment"),
        (nowhere, UnreadableError, "frame 2 does not say where it lies"),
    ]
    for path, kind, message in cases:
        with pytest.raises(kind, match=message):
            read_mask(path, image)


def test_masks_as_series_and_in_a_folder(tmp_path: Path, image: Volume) -> None:
    folder = write_series(tmp_path / "mask", LESION.astype(np.uint8))
    mask = read_mask(folder, image)
    assert np.array_equal(mask.array, LESION)
    assert align(image, mask)[1] == 0
    (tmp_path / "seg").mkdir()
    write_segmentation(tmp_path / "seg" / "s.dcm", LESION, POSITIONS, [1] * 6)
    assert np.array_equal(read_mask(tmp_path / "seg", image).array > 0, LESION)


def test_one_label_of_any_mask(tmp_path: Path) -> None:
    labels = RNG.integers(0, 3, SHAPE).astype(np.uint8)
    folder = write_series(tmp_path / "mask", labels)
    assert np.array_equal(read_mask(folder, label=2).array, 2 * (labels == 2))
    with pytest.raises(LabelError, match="labels found: 1, 2"):
        read_mask(folder, label=5)


def test_a_single_slice_is_no_series(tmp_path: Path) -> None:
    write_slice(tmp_path / "one.dcm", LESION[0].astype(np.uint8), (0, 0, 0))
    with pytest.raises(ImagingError, match="a single slice"):
        read_mask(tmp_path)
