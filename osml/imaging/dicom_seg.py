"""DICOM segmentations on the grid of their image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.imaging import dicom
from osml.imaging.dicom_volume import EVEN_SHARE, Plane, axes_of, frame_plane
from osml.imaging.errors import EmptyMaskError, GeometryError, LabelError, UnreadableError
from osml.imaging.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

_TAGS = ("SegmentationType", "MaximumFractionalValue", "PixelPaddingValue")


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file is a segmentation or a set of contours (RTSTRUCT), not an image.

    Raises
    ------
    UnreadableError
    """
    kinds = (dicom.SEGMENTATION, dicom.LABEL_MAP, dicom.CONTOURS)
    return dicom.text(dicom.read_header(path), "SOPClassUID") in kinds


def read_segmentation(path: Path, like: Volume | None, label: float | None = None) -> Volume:
    """The segments of a DICOM-SEG file as labels (their segment numbers) on the grid of an image.

    Each frame is placed by its own position and orientation, whatever the order of its rows, columns and slices; it
    may cover part of a slice. Its pixels must be the image's voxels: within a tenth of a voxel, none interpolated.
    A fractional segmentation is read where it holds 0 and its maximum only.

    Parameters
    ----------
    like : the image that was segmented, 3D
    label : read this segment only; needed where segments overlap

    Raises
    ------
    UnreadableError
        Contours, fractions, frames without a place.
    GeometryError
        No image is given, or the frames lie on another grid, beside it, or leave the image.
    EmptyMaskError, LabelError
        Nothing is segmented; the segment does not exist; segments overlap.
    """
    header = dicom.read_header(path, *_TAGS)
    planes, numbers = _frames(path, header)
    if like is None or like.array.ndim != 3:
        raise GeometryError(
            f"{path}: a DICOM segmentation is placed on the 3D image that was segmented; "
            + ("no image is given" if like is None else f"{like.name} is 2D"),
            do="Name the folder of the image's slices with it.",
        )
    if label is not None and numbers and label not in numbers:
        known = ", ".join(map(str, sorted(set(numbers))))
        raise LabelError(f"{path}: segment {label:g} is not in the mask; segments found: {known}")
    values = _values(path, header)
    out = np.zeros(like.array.shape, dtype=np.uint16)
    overlaps: dict[tuple[int, int], int] = {}
    touched: dict[int, set[int]] = {}
    for k, plane in enumerate(planes):
        if numbers and label is not None and numbers[k] != label:
            continue
        rows, columns = np.nonzero(values[k])
        if not rows.size:
            continue
        number = np.uint16(numbers[k]) if numbers else values[k][rows, columns].astype(np.uint16)
        at = _voxels(path, plane, like, rows, columns)
        for axis in range(3):
            if at[axis].min() == at[axis].max():
                touched.setdefault(axis, set()).add(int(at[axis][0]))
        before = out[at]
        for other in np.unique(before[(before != 0) & (before != number)]):
            pair = (int(other), int(np.max(number)))
            overlaps[pair] = overlaps.get(pair, 0) + int((before == other).sum())
        out[at] = number
    if overlaps:
        words = ", ".join(f"{a} and {b} in {n} voxels" for (a, b), n in sorted(overlaps.items())[:5])
        raise LabelError(
            f"{path}: segments overlap: {words}",
            why="A voxel can hold one label.",
            do="Choose one segment by its number (`label`).",
        )
    if not out.any():
        raise EmptyMaskError(f"{path}: nothing is segmented (all pixels are 0)")
    _check_stripes(path, like, touched)
    if label is not None and not numbers:
        if not (out == label).any():
            known = ", ".join(map(str, np.unique(out[out > 0])))
            raise LabelError(f"{path}: segment {label:g} is not in the mask; segments found: {known}")
        out[out != label] = 0
    return Volume(out, like.spacing_mm, like.origin_mm, like.direction, str(path))


def _frames(path: Path, header: Dataset) -> tuple[list[Plane], list[int]]:
    """The place of each frame, and its segment number; no numbers in a label map."""
    kind = dicom.text(header, "SOPClassUID")
    if kind == dicom.CONTOURS:
        raise UnreadableError(
            f"{path}: contours (RT Structure Set), not voxels",
            why="Which voxels lie inside a contour depends on the program that fills it.",
            do="Fill it where it was drawn: export a DICOM segmentation or a label image (NRRD, NIfTI).",
        )
    if kind not in (dicom.SEGMENTATION, dicom.LABEL_MAP):
        raise UnreadableError(f"{path}: {dicom.kind(header)}, not a segmentation")
    shared = dicom.parts(header, "SharedFunctionalGroupsSequence")
    frames = dicom.parts(header, "PerFrameFunctionalGroupsSequence")
    if len(frames) != dicom.whole(header, "NumberOfFrames", 1):
        raise UnreadableError(
            f"{path}: {dicom.whole(header, 'NumberOfFrames', 1)} frames, {len(frames)} of them with a place",
            why="Tiles of a slide, and damaged files, do not say where each frame lies.",
        )
    planes, numbers = [], []
    for k, frame in enumerate(frames, start=1):
        planes.append(frame_plane(f"frame {k}", header, frame, shared))
        if not _is_label_map(header):
            common = shared[0] if shared else None
            named = dicom.parts(frame, "SegmentIdentificationSequence") or dicom.parts(
                common, "SegmentIdentificationSequence"
            )
            number = dicom.whole(named[0], "ReferencedSegmentNumber") if named else 0
            if not 0 < number <= 65535:
                raise UnreadableError(f"{path}: frame {k} names no segment")
            numbers.append(number)
    return planes, numbers


def _is_label_map(header: Dataset) -> bool:
    """Whether pixels hold segment numbers; otherwise each frame belongs to one segment."""
    return dicom.text(header, "SOPClassUID") == dicom.LABEL_MAP or dicom.text(header, "SegmentationType") == "LABELMAP"


def _check_stripes(path: Path, like: Volume, touched: dict[int, set[int]]) -> None:
    """Refuse a segmentation of thicker slices, which would fill every second or third slice only."""
    for indices in touched.values():
        gap = int(np.diff(sorted(indices)).min()) if len(indices) > 2 else 1
        if gap > 1:
            raise GeometryError(
                f"segmentation and image grids differ: {path} fills {len(indices)} slices of {like.name}, none of them "
                f"neighbours (every {gap} or more)",
                why="It was drawn on thicker slices. Nothing was changed.",
                do="Name the image that was segmented, in its own resolution.",
            )


def _values(path: Path, header: Dataset) -> NDArray[Any]:
    values = dicom.read_values(path, palette=False)
    background = dicom.whole(header, "PixelPaddingValue")
    if background and _is_label_map(header):
        values = np.where(values == background, 0, values)
    if dicom.text(header, "SegmentationType") == "FRACTIONAL":
        top = dicom.whole(header, "MaximumFractionalValue", 255)
        between = int(((values != 0) & (values != top)).sum())
        if between:
            raise UnreadableError(
                f"{path}: a fractional segmentation, {between} pixels between 0 and its maximum",
                why="The threshold that makes it a mask is a decision of the reader.",
                do="Apply the threshold where it was made, and export it as binary.",
            )
    return values


def _voxels(
    path: Path, plane: Plane, like: Volume, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[NDArray[np.intp], ...]:
    """Array indices (z, y, x) in the image of pixels of a frame."""
    if plane.position is None or plane.orientation is None or plane.spacing is None:
        raise UnreadableError(f"{path}: {plane.where} does not say where it lies")
    axes = axes_of(plane.orientation, f"{path}, {plane.where}")[:, :2] * [plane.spacing[1], plane.spacing[0]]
    to_index = np.linalg.inv(np.reshape(like.direction, (3, 3)) * np.array(like.spacing_mm))
    steps = to_index @ axes  # voxels of the image for one column, one row
    start = to_index @ np.subtract(plane.position, like.origin_mm)
    corners = start + np.array([(c, r) for c in (0, plane.shape[1] - 1) for r in (0, plane.shape[0] - 1)]) @ steps.T
    whole = np.rint(steps)
    unit = np.abs(whole).sum(axis=0).tolist() == [1, 1] and np.abs(whole).sum(axis=1).max() == 1
    if not unit or np.abs(steps - whole).max() > EVEN_SHARE or np.abs(corners - np.rint(corners)).max() > EVEN_SHARE:
        raise GeometryError(
            f"segmentation and image grids differ\n  image {like.name}: {like.grid()}\n"
            f"  mask  {path}: {plane.where} {plane.shape[1]}×{plane.shape[0]}  "
            f"{plane.spacing[1]:.4g}×{plane.spacing[0]:.4g} mm  origin " + " ".join(f"{p:.4g}" for p in plane.position),
            why=f"Its first pixel would be voxel {' '.join(f'{v:.4g}' for v in start)} (x y z). Nothing was changed.",
            do="Name the image that was segmented, in its own resolution.",
        )
    index = (np.rint(start).astype(np.intp) + np.stack([columns, rows], axis=1) @ whole.T.astype(np.intp))[:, ::-1]
    outside = int(((index < 0) | (index >= like.array.shape)).any(axis=1).sum())
    if outside:
        raise GeometryError(
            f"segmentation leaves the image: {outside} of {len(rows)} pixels of {plane.where}\n"
            f"  image {like.name}: {like.grid()}\n"
            f"  mask  {path}: {plane.where} at " + " ".join(f"{p:.4g}" for p in plane.position) + " mm",
            why="Part of the lesion would be lost. Nothing was changed.",
            do="Name the image that was segmented, with all its slices.",
        )
    return tuple(index.T)
