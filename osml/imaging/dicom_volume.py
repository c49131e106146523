"""Volumes from DICOM: a folder of slices, or one file of many frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.imaging import dicom
from osml.imaging.errors import DimensionError, DirectionError, SeriesError, UnreadableError
from osml.imaging.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

# A slice may lie this share of the slice distance beside an even grid: positions are rounded in the file.
EVEN_SHARE = 0.1
# Slices at one place, in mm.
_SAME_MM = 0.01
# What tells the volumes of a 4D series apart; the names are printed, the values never.
_PHASES = (
    "TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime", "InversionTime", "TriggerTime",
    "DiffusionBValue", "ImageType", "AcquisitionTime",
)  # fmt: skip
_SUFFIXES = (".dcm", ".dicom", ".ima", "")


@dataclass(frozen=True)
class Plane:
    """One slice: where it lies and how its values are scaled."""

    where: str
    shape: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    scale: tuple[float, float]


def read_series(folder: Path) -> Volume:
    """The slices of a folder as one volume, sorted along their normal, rescaled (Hounsfield units, Bq/ml) in float64.

    Only the folder itself is read, not its subfolders. Each file may have its own slope and intercept. A DICOMDIR,
    hidden files and files with another suffix than .dcm, .ima, none or a number are passed over, and noted.

    Raises
    ------
    UnreadableError
        No DICOM file, a damaged one, or one that is not an image.
    SeriesError
        Several series, sizes or orientations, missing or doubled slices, a single slice.
    DimensionError
        More than one volume (4D), or colour.
    DirectionError
        The slices are sheared (gantry tilt).
    """
    files, ignored = series_files(folder)
    headers = [dicom.read_header(file, *_PHASES) for file in files]
    for file, header in zip(files, headers, strict=True):
        _check_image(file, header)
    _check_one_series(folder, files, headers)
    if len(files) == 1 and dicom.whole(headers[0], "NumberOfFrames", 1) > 1:
        return read_frames(files[0])
    if len(files) == 1:
        raise SeriesError(
            f"{folder}: a single slice, {files[0].name}", do="Name the file itself to read it as a picture."
        )
    many = [
        file.name for file, header in zip(files, headers, strict=True) if dicom.whole(header, "NumberOfFrames", 1) > 1
    ]
    if many:
        raise SeriesError(
            f"{folder}: files of several frames, {_some(many)}, among {len(files)} files",
            do="Name one such file, or keep a folder of single slices.",
        )
    planes = [_plane(file.name, header) for file, header in zip(files, headers, strict=True)]
    order, grid = _stacked(str(folder), planes, headers)
    dicom.check_size(folder, len(planes) * int(np.prod(planes[0].shape)))
    array = np.empty((len(planes), *planes[0].shape))
    for slot, index in zip(array, order, strict=True):
        slot[...] = _rescaled(dicom.read_values(files[index])[0], planes[index])
    found = {note for header in headers for note in dicom.notes(header)}
    if ignored:
        found.add(f"{ignored} other files in the folder were passed over")
    return Volume(array, *grid, name=str(folder), notes=tuple(sorted(found)))


def read_frames(path: Path) -> Volume:
    """One enhanced multi-frame file (CT, MR, PET) as a volume, like `read_series`.

    Raises
    ------
    UnreadableError, SeriesError, DimensionError, DirectionError
    """
    header = dicom.read_header(path)
    _check_image(path, header)
    count = dicom.whole(header, "NumberOfFrames", 1)
    shared = dicom.parts(header, "SharedFunctionalGroupsSequence")
    frames = dicom.parts(header, "PerFrameFunctionalGroupsSequence")
    if len(frames) != count:
        raise DimensionError(
            f"{path}: {count} frames without their places in space ({dicom.kind(header)})",
            why="A film or a rotation is not a volume.",
            do="Export the volume that was reconstructed from it, or a single frame.",
        )
    planes = [frame_plane(f"frame {k}", header, frame, shared) for k, frame in enumerate(frames, start=1)]
    order, grid = _stacked(str(path), planes, [])
    values = dicom.read_values(path)
    array = np.empty(values.shape)
    for slot, index in zip(array, order, strict=True):
        slot[...] = _rescaled(values[index], planes[index])
    return Volume(array, *grid, name=str(path), notes=dicom.notes(header))


def series_files(folder: Path) -> tuple[list[Path], int]:
    """The DICOM files of a folder by name, and how many others were passed over.

    Raises
    ------
    UnreadableError
        There are none, or a file with a suffix of DICOM is something else.
    """
    inside = sorted(folder.iterdir())
    files = [file for file in inside if file.is_file() and not file.name.startswith(".") and file.name != "DICOMDIR"]
    found = [file for file in files if dicom.is_dicom(file)]
    if not found:
        below = sum(entry.is_dir() for entry in inside)
        raise UnreadableError(
            f"{folder}: no DICOM files among {len(files)} files",
            do=f"It has {below} subfolders: name the one that holds the series." if below else "",
        )
    wrong = [
        file.name for file in files
        if file not in found and (file.suffix.lower() in _SUFFIXES or file.suffix[1:].isdigit())
    ]  # fmt: skip
    if wrong:
        raise UnreadableError(
            f"{folder}: {_some(wrong)} should be DICOM, but begin otherwise",
            why="A damaged slice would be missing from the volume.",
            do="Copy the series again, or take these files out of the folder.",
        )
    return found, len(files) - len(found)


def frame_plane(where: str, header: Dataset, frame: Dataset, shared: list[Dataset]) -> Plane:
    """The place of one frame of a multi-frame file: its own groups, else the shared ones."""
    common = shared[0] if shared else None

    def group(name: str) -> Dataset | None:
        return next(iter(dicom.parts(frame, name) or dicom.parts(common, name)), None)

    def values(name: str, keyword: str, count: int) -> tuple[float, ...] | None:
        found = group(name)
        return None if found is None else dicom.numbers(found, keyword, count)

    slope = values("PixelValueTransformationSequence", "RescaleSlope", 1) or (1.0,)
    intercept = values("PixelValueTransformationSequence", "RescaleIntercept", 1) or (0.0,)
    return Plane(
        where, (dicom.whole(header, "Rows"), dicom.whole(header, "Columns")),
        values("PlanePositionSequence", "ImagePositionPatient", 3),
        values("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        values("PixelMeasuresSequence", "PixelSpacing", 2), (slope[0], intercept[0]),
    )  # fmt: skip


def axes_of(orientation: Sequence[float], name: str) -> NDArray[np.float64]:
    """Unit vectors along x and y of the slice and its normal, as columns; rounded cosines are made exact.

    Raises
    ------
    DirectionError
        The two vectors of the file are not of length 1 and perpendicular (within 0.001).
    """
    x, y = np.reshape(orientation, (2, 3))
    if abs(x @ x - 1) > 2e-3 or abs(y @ y - 1) > 2e-3 or abs(x @ y) > 1e-3:
        raise DirectionError(f"{name}: the rows and columns of its slices are not perpendicular unit vectors")
    x = x / np.linalg.norm(x)
    y = y - (x @ y) * x
    y /= np.linalg.norm(y)
    return np.column_stack([x, y, np.cross(x, y)])


def _check_image(path: Path, header: Dataset) -> None:
    dicom.check_image(path, header)
    if dicom.whole(header, "SamplesPerPixel", 1) != 1:
        raise DimensionError(f"{path}: a volume in colour ({dicom.kind(header)}); one channel is expected")
    if dicom.parts(header, "ModalityLUTSequence"):
        raise UnreadableError(
            f"{path}: its values are scaled by a table (Modality LUT), which is read for pictures only"
        )


def _check_one_series(folder: Path, files: list[Path], headers: list[Dataset]) -> None:
    groups: dict[str, list[str]] = {}
    for file, header in zip(files, headers, strict=True):
        groups.setdefault(dicom.text(header, "SeriesInstanceUID"), []).append(file.name)
    if len(groups) > 1:
        words = ", ".join(f"{len(names)} files (first {names[0]})" for names in list(groups.values())[:8])
        raise SeriesError(
            f"{folder}: {len(groups)} series in one folder: {words}",
            why="Slices of several series would be mixed into one volume.",
            do="Give each series its own folder.",
        )


def _plane(where: str, header: Dataset) -> Plane:
    slope, intercept = dicom.numbers(header, "RescaleSlope", 1), dicom.numbers(header, "RescaleIntercept", 1)
    return Plane(
        where, (dicom.whole(header, "Rows"), dicom.whole(header, "Columns")),
        dicom.numbers(header, "ImagePositionPatient", 3), dicom.numbers(header, "ImageOrientationPatient", 6),
        dicom.numbers(header, "PixelSpacing", 2), ((slope or (1.0,))[0], (intercept or (0.0,))[0]),
    )  # fmt: skip


def _rescaled(values: NDArray[Any], plane: Plane) -> NDArray[np.float64]:
    return values * plane.scale[0] + plane.scale[1]


def _stacked(
    name: str, planes: list[Plane], headers: list[Dataset]
) -> tuple[list[int], tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]]:
    """Order of the slices along their normal, and spacing, origin and direction of the volume."""
    lost = [p.where for p in planes if p.position is None or p.orientation is None or p.spacing is None]
    if lost:
        raise SeriesError(
            f"{name}: {len(lost)} of {len(planes)} slices do not say where they lie, {_some(lost)}",
            why="ImagePositionPatient, ImageOrientationPatient and PixelSpacing place a slice.",
            do="Take scouts, reports and secondary captures out of the series.",
        )
    _check_alike(name, planes, "sizes", [p.shape for p in planes])
    orientation = np.array([p.orientation for p in planes])
    _check_alike(name, planes, "orientations", [tuple(np.round(o - orientation[0], 3) + 0.0) for o in orientation])
    spacing = np.array([p.spacing for p in planes])
    if spacing.min() <= 0:
        raise DimensionError(f"{name}: pixels of size 0")
    _check_alike(name, planes, "pixel spacings", [tuple(np.round(s / spacing[0], 3)) for s in spacing])
    axes = axes_of(orientation[0], name)
    position = np.array([p.position for p in planes])
    along = position @ axes[:, 2]
    order = np.argsort(along, kind="stable")
    _check_single(name, planes, along, order, headers)
    if len(planes) == 1:
        raise SeriesError(f"{name}: a single slice; a volume has at least 2")
    step = _even_step(name, planes, along[order], order)
    row, column = spacing[0]
    across = (position - position[order[0]]) @ axes[:, :2] / [column, row]
    if np.abs(across).max() > 0.5:
        travelled = position[order[-1]] - position[order[0]]
        sideways = float(np.linalg.norm(travelled @ axes[:, :2]))
        raise DirectionError(
            f"{name}: the slices are not stacked at right angles: from first to last they move {sideways:.3g} mm "
            f"sideways over {along[order[-1]] - along[order[0]]:.4g} mm",
            why="A tilted gantry or moved slices make a sheared grid, which is not resampled silently.",
            do="Have the series reconstructed without tilt.",
        )
    return list(map(int, order)), ((column, row, step), tuple(position[order[0]]), tuple(axes.ravel()))


def _check_alike(name: str, planes: list[Plane], what: str, keys: Sequence[tuple[float, ...]]) -> None:
    found = Counter(keys)
    if len(found) > 1:
        words = ", ".join(
            f"{count} slices ({f'{key[1]}×{key[0]}, ' if what == 'sizes' else ''}first "
            f"{next(p.where for p, k in zip(planes, keys, strict=True) if k == key)})"
            for key, count in found.most_common(8)
        )
        raise SeriesError(
            f"{name}: slices of {len(found)} {what}: {words}",
            why="They do not form one grid.",
            do="Take scouts and other acquisitions out of the series.",
        )


def _check_single(
    name: str, planes: list[Plane], along: NDArray[np.float64], order: NDArray[np.intp], headers: list[Dataset]
) -> None:
    """Refuse several slices at one place: 4D if every place has as many, doubled slices otherwise."""
    place = np.concatenate([[0], np.cumsum(np.diff(along[order]) > _SAME_MM)])
    counts = np.bincount(place)
    if counts.max() == 1:
        return
    if counts.min() == counts.max():
        variants = {tag: dicom.variants(headers, tag) for tag in _PHASES}
        varying = ", ".join(f"{tag} ({n} values)" for tag, n in variants.items() if n > 1)
        raise DimensionError(
            f"{name}: {counts[0]} slices at each of {len(counts)} places; a single 3D volume is expected"
            + (f"; what differs: {varying}" if varying else ""),
            why="Phases, echoes or b-values would be mixed.",
            do="Give each volume its own folder, or take out files that were copied twice.",
        )
    doubled = [
        f"{along[order[k]]:.4g} mm ({', '.join(planes[i].where for i in order[place == place[k]][:3])})"
        for k in np.unique(place, return_index=True)[1]
        if counts[place[k]] > 1
    ]
    raise SeriesError(
        f"{name}: several slices at one place along the normal: {_some(doubled)}",
        why="Which of them belongs to the volume would be guessed.",
        do="Take the others out of the folder.",
    )


def _even_step(name: str, planes: list[Plane], along: NDArray[np.float64], order: NDArray[np.intp]) -> float:
    steps = np.diff(along)
    step = float((along[-1] - along[0]) / len(steps))
    beside = np.abs(along - (along[0] + step * np.arange(len(along))))
    if beside.max() <= EVEN_SHARE * step:
        return step
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    gaps = np.flatnonzero(np.abs(steps - usual) > EVEN_SHARE * usual)
    words = [
        f"{steps[k]:.4g} mm between {planes[order[k]].where} ({along[k]:.4g} mm) and "
        f"{planes[order[k + 1]].where} ({along[k + 1]:.4g} mm)"
        + (f": {round(steps[k] / usual) - 1} missing" if steps[k] > 1.5 * usual else "")
        for k in gaps
    ]
    raise SeriesError(
        f"{name}: {len(along)} slices are unevenly spaced, usually {usual:.4g} mm; "
        + (_some(words) if words else f"up to {beside.max():.3g} mm beside an even grid"),
        why="A volume has one slice distance; what is missing is not made up.",
        do="Export the whole series again.",
    )


def _some(names: Sequence[str], at_most: int = 5) -> str:
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more} more" if more > 0 else "")
