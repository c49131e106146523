"""What annotators said of a slide, as a raster of classes: QuPath's GeoJSON, or a picture in the classes' colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osml.imaging.errors import AnnotationError
from osml.imaging.slides import Slide
from osml.imaging.slides_classes import NOTHING, LabelRaster, SlideClass, check_classes
from osml.imaging.slides_geojson import Annotation, read_geojson
from osml.imaging.slides_polygons import fill
from osml.imaging.slides_tissue import Tissue

# A stroke may leave the slide by this share of its sides; it is cut there.
_BEYOND = 0.01
# Annotations lie on tissue; in another level's coordinates they would lie elsewhere.
_ON_TISSUE, _BETTER = 0.5, 0.3
_SUFFIXES = (".geojson", ".json")
_BLACK = (0, 0, 0)


def label_raster(
    slide: Slide,
    path: Path,
    classes: Sequence[SlideClass],
    *,
    mpp: float,
    tissue: Tissue | None = None,
    rename: Mapping[str, str] | None = None,
    background: Sequence[str] = (),
) -> LabelRaster:
    """The annotation of a slide at a scale.

    Parameters
    ----------
    path : .geojson or .json of QuPath; or PNG or TIFF in the classes' colours that covers the whole slide
    mpp : µm per pixel of the raster
    tissue : of the slide, to see whether annotations lie on it; none: not checked
    rename : class of the study by the annotator's name for it; an annotation whose class is renamed to "" is left out
    background : names of classes that need not lie on tissue

    Notes
    -----
    Of annotations that overlap, the smaller one counts (necrosis drawn within tumour); the overlap is noted. In a
    picture black is unlabelled unless a class is black.

    Raises
    ------
    AnnotationError
        Unknown class or colour, no class, outside the slide, another level's coordinates, a picture of another shape.
    """
    check_classes(classes)
    if path.suffix.lower() in _SUFFIXES:
        return _from_geojson(slide, path, classes, mpp, tissue, rename or {}, background)
    return _from_picture(slide, path, classes, mpp)


def raster_shape(slide: Slide, mpp: float) -> tuple[tuple[int, int], float]:
    """(h, w) of a raster that covers the slide, and pixels of level 0 per pixel of it."""
    scale = mpp / slide.mpp
    return (math.ceil(slide.height / scale - 1e-9), math.ceil(slide.width / scale - 1e-9)), scale


def _from_geojson(
    slide: Slide, path: Path, classes: Sequence[SlideClass], mpp: float, tissue: Tissue | None,
    rename: Mapping[str, str], background: Sequence[str],
) -> LabelRaster:  # fmt: skip
    kept: list[tuple[int, Annotation]] = []
    number_of = {kind.name: number for number, kind in enumerate(classes)}
    unknown: dict[str, int] = {}
    for found in read_geojson(path):
        name = rename.get(found.name, found.name)
        if found.name and not name:
            continue
        if name in number_of:
            kept.append((number_of[name], found))
        else:
            unknown[name] = unknown.get(name, 0) + 1
    if unknown:
        words = ", ".join(f"{name!r} ({n})" if name else f"no class ({n})" for name, n in sorted(unknown.items()))
        raise AnnotationError(
            f"{slide.name}: {path.name}: annotations of unknown classes: {words}",
            why=f"Classes are {', '.join(number_of)}.",
            do="Correct the names in QuPath, or say what they are in the classes of the study.",
        )
    _inside(slide, path, [found for _, found in kept])
    if tissue is not None:
        checked = [found for number, found in kept if classes[number].name not in background]
        _same_level(slide, path, checked, tissue)
    shape, scale = raster_shape(slide, mpp)
    labels = np.full(shape, NOTHING, dtype=np.uint8)
    overlap = 0
    for number, found in sorted(kept, key=lambda pair: (-pair[1].area, pair[1].number)):
        covered = fill([[ring / scale for ring in rings] for rings in found.polygons], shape)
        under = labels[covered]
        overlap += int(np.count_nonzero((under != NOTHING) & (under != number)))
        labels[covered] = number
    notes: tuple[str, ...] = ()
    if overlap:
        area = overlap * mpp**2 / 1e6
        notes = (f"annotations of different classes overlap on {area:.3g} mm²: the smaller one counts",)
    return LabelRaster(labels, scale, mpp, notes)


def _inside(slide: Slide, path: Path, annotations: Sequence[Annotation]) -> None:
    """Refuse what lies beyond the slide."""
    width, height = slide.width, slide.height
    bad = []
    for found in annotations:
        left, top, right, low = found.bounds
        beyond = max(-left / width, -top / height, right / width - 1, low / height - 1)
        if beyond > _BEYOND:
            bad.append(found)
    if bad:
        left, top, right, low = bad[0].bounds
        raise AnnotationError(
            f"{slide.name}: {path.name}: {len(bad)} of {len(annotations)} annotations lie outside the slide; "
            f"annotation {bad[0].number} spans x {left:.0f} to {right:.0f}, y {top:.0f} to {low:.0f}, "
            f"the slide is {width}×{height}",
            why="It belongs to another slide, or to another export of this one.",
            do="Export the annotations from the project in which this file was opened.",
        )


def _same_level(slide: Slide, path: Path, annotations: Sequence[Annotation], tissue: Tissue) -> None:
    """Refuse coordinates that fit the tissue only after scaling by a level's downsample."""
    if not annotations:
        return

    def on_tissue(factor: float) -> float:
        scaled = [[ring * factor / tissue.scale for ring in rings] for a in annotations for rings in a.polygons]
        covered = fill(scaled, tissue.inside.shape)
        # Against the area that was drawn: what falls beyond the slide does not lie on tissue.
        drawn = sum(a.area for a in annotations) * (factor / tissue.scale) ** 2
        hit, covered_px = int(np.count_nonzero(tissue.inside & covered)), int(np.count_nonzero(covered))
        return hit / max(drawn, covered_px, 1.0)

    now = on_tissue(1.0)
    if now >= _ON_TISSUE:
        return
    downs = [level.downsample for level in slide.levels[1:]]
    tried = [*enumerate(downs, start=1), *((k, 1 / down) for k, down in enumerate(downs, start=1))]
    other, number, factor = max(((on_tissue(factor), k, factor) for k, factor in tried), default=(0.0, 0, 1.0))
    if other >= now + _BETTER:
        words = f"in pixels of level {number}" if factor > 1 else f"{1 / factor:.3g} times too large"
        raise AnnotationError(
            f"{slide.name}: {path.name}: the annotations seem to be {words}: "
            f"{100 * now:.0f} % of their area lies on tissue, {100 * other:.0f} % would if scaled by {factor:.3g}",
            why="QuPath's coordinates are pixels of the largest level.",
            do="Export them again from QuPath, or scale them.",
        )
    if now == 0:
        raise AnnotationError(
            f"{slide.name}: {path.name}: no annotation lies on tissue",
            do="Check that the file belongs to this slide.",
        )


def _from_picture(slide: Slide, path: Path, classes: Sequence[SlideClass], mpp: float) -> LabelRaster:
    from osml.imaging.raster import read_raster

    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise AnnotationError(
            f"{slide.name}: {path.name}: JPEG changes colours, so a class would be guessed", do="Save it as PNG."
        )
    picture, _ = read_raster(path)
    if picture.dtype != np.uint8:
        raise AnnotationError(f"{slide.name}: {path.name}: {picture.dtype}; a picture of 8 bits in colours is expected")
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    height, width = int(picture.shape[0]), int(picture.shape[1])
    ratio = (slide.width / width) / (slide.height / height)
    # Rounding of a side by one pixel, and one per cent.
    if abs(ratio - 1) > 0.01 + 1 / float(min(height, width)):
        raise AnnotationError(
            f"{slide.name}: {path.name} is {width}×{height}; the slide is {slide.width}×{slide.height}, another shape",
            why="The picture must cover the whole slide.",
            do="Export the whole slide, without a border.",
        )
    code: NDArray[np.uint32] = (picture.astype(np.uint32) << np.array([16, 8, 0], dtype=np.uint32)).sum(
        axis=2, dtype=np.uint32
    )
    numbers = np.full(code.shape, NOTHING, dtype=np.uint8)
    known = np.zeros(code.shape, dtype=np.bool_)
    for number, colour in [*enumerate(kind.colour for kind in classes), (NOTHING, _BLACK)]:
        here = (code == (colour[0] << 16 | colour[1] << 8 | colour[2])) & ~known
        numbers[here], known = number, known | here
    if not known.all():
        found, counts = np.unique(code[~known], return_counts=True)
        first = int(found[counts.argmax()])
        raise AnnotationError(
            f"{slide.name}: {path.name}: {len(found)} colours of no class on {100 * (~known).mean():.2g} % of the "
            f"picture, mostly ({first >> 16}, {first >> 8 & 255}, {first & 255})",
            why="Classes are " + ", ".join(f"{kind.name} {kind.colour}" for kind in classes) + ".",
            do="Save the mask without smoothing or compression, in these colours.",
        )
    shape, scale = raster_shape(slide, mpp)
    # The middle of each pixel of the raster.
    row = np.minimum(((np.arange(shape[0]) + 0.5) * scale * height / slide.height).astype(int), height - 1)
    column = np.minimum(((np.arange(shape[1]) + 0.5) * scale * width / slide.width).astype(int), width - 1)
    return LabelRaster(numbers[row[:, None], column], scale, mpp)
