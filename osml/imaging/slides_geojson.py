"""QuPath's GeoJSON: writing the pieces of a class map, reading annotations. Coordinates are pixels of level 0."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from osml.imaging.errors import AnnotationError
from osml.imaging.slides_classes import LabelRaster, SlideClass
from osml.imaging.slides_files import write_whole
from osml.imaging.slides_polygons import Ring, outlines


@dataclass(frozen=True)
class Annotation:
    """One annotated region.

    Attributes
    ----------
    name : of its class, as the file writes it; empty where it has none
    polygons : each a tuple of closed rings of x, y in pixels of level 0, the outer one first
    number : of the feature in the file, from 1
    """

    name: str
    polygons: tuple[tuple[Ring, ...], ...]
    number: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        points = np.concatenate([ring for rings in self.polygons for ring in rings])
        return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())

    @property
    def area(self) -> float:
        """Pixels of level 0."""
        return sum(abs(_area(rings[0])) - sum(abs(_area(hole)) for hole in rings[1:]) for rings in self.polygons)


def write_geojson(
    path: Path, raster: LabelRaster, classes: Sequence[SlideClass], size: tuple[int, int], *,
    min_area_um2: float = 0.0, skip: Sequence[str] = (),
) -> int:  # fmt: skip
    """Write every connected piece of every class as a QuPath annotation; the number of pieces.

    Parameters
    ----------
    size : width and height of level 0: the raster's last pixels may reach beyond it, outlines do not
    min_area_um2 : smaller pieces are left out
    skip : names of classes that are left out (background)

    Notes
    -----
    Outlines follow the raster's pixels exactly: `label_raster` gives the raster back (but for a last row or column
    whose middle lies beyond the slide). Equal rasters
    give equal bytes. Background is best skipped: its outline holds every hole.
    """
    lines: list[str] = []
    for number, kind in enumerate(classes):
        if kind.name in skip:
            continue
        for piece in outlines(raster.labels == number, min_area_um2 / raster.mpp**2):
            rings = [np.minimum(_turns(ring) * raster.scale, size) for ring in piece.rings]
            lines.append(json.dumps(_feature(kind, rings, len(lines)), ensure_ascii=False))
    text = '{"type": "FeatureCollection", "features": [\n' + ",\n".join(lines) + "\n]}\n"
    write_whole(path, text)
    return len(lines)


def read_geojson(path: Path) -> tuple[Annotation, ...]:
    """The annotated regions of a QuPath export: a collection, a list of features, or one feature.

    Raises
    ------
    AnnotationError
        Not GeoJSON, or a feature that is no region (points, lines), or has fewer than three corners.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise AnnotationError(
            f"{path}: cannot be read as GeoJSON ({str(error)[:100]})", do="Export it from QuPath again, as GeoJSON."
        ) from error
    features = data.get("features") if isinstance(data, dict) and data.get("type") != "Feature" else data
    features = [features] if isinstance(features, dict) else features
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise AnnotationError(f"{path}: no list of features", do="Export it from QuPath again, as GeoJSON.")
    return tuple(_annotation(path, feature, number) for number, feature in enumerate(features, start=1))


def _annotation(path: Path, feature: dict[str, Any], number: int) -> Annotation:
    properties = feature.get("properties") or {}
    kind = properties.get("classification") or {}
    name = kind.get("name") or ": ".join(kind.get("names") or ())
    return Annotation(str(name), tuple(_polygons(path, feature.get("geometry") or {}, number)), number)


def _polygons(path: Path, geometry: dict[str, Any], number: int) -> Iterator[tuple[Ring, ...]]:
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        for part in geometry.get("geometries") or ():
            yield from _polygons(path, part, number)
        return
    if kind not in ("Polygon", "MultiPolygon"):
        raise AnnotationError(
            f"{path}: annotation {number} is a {kind or 'feature without geometry'}; regions are expected",
            do="Leave points and lines out of the export.",
        )
    given = geometry.get("coordinates") or []
    for polygon in [given] if kind == "Polygon" else given:
        rings = []
        for ring in polygon:
            try:
                points = np.array([[float(point[0]), float(point[1])] for point in ring])
            except (TypeError, ValueError, IndexError) as error:
                raise AnnotationError(f"{path}: annotation {number} has corners that are no numbers") from error
            if len(points) < 3 or not np.isfinite(points).all():
                raise AnnotationError(f"{path}: annotation {number} has fewer than three corners, or infinite ones")
            rings.append(points if (points[0] == points[-1]).all() else np.concatenate([points, points[:1]]))
        if not rings:
            raise AnnotationError(f"{path}: annotation {number} is empty")
        yield tuple(rings)


def _feature(kind: SlideClass, rings: Sequence[Ring], number: int) -> dict[str, Any]:
    coordinates = [[[_plain(x), _plain(y)] for x, y in ring.tolist()] for ring in rings]
    # QuPath wants an id; one that follows from the content keeps the bytes equal.
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {kind.name} {coordinates[0][:3]}")
    return {
        "type": "Feature",
        "id": str(name),
        "geometry": {"type": "Polygon", "coordinates": coordinates},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": kind.name, "color": list(kind.colour)},
        },
    }


def _turns(ring: Ring) -> Ring:
    """The ring without points in the middle of an edge."""
    step = np.diff(ring, axis=0)
    turn = np.any(np.sign(step) != np.sign(np.roll(step, 1, axis=0)), axis=1)
    kept = ring[:-1][turn]
    return np.concatenate([kept, kept[:1]])


def _plain(value: float) -> float | int:
    rounded = round(value, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _area(ring: Ring) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
