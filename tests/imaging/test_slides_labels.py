"""Annotations: QuPath's GeoJSON and pictures in the classes' colours, there and back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imaging.slide_files import picture, write_tiff
from PIL import Image
from scipy import ndimage

from osml.errors import InvalidInputError
from osml.imaging.errors import AnnotationError
from osml.imaging.slides import Slide, open_slide
from osml.imaging.slides_classes import (
    NOTHING,
    PAPER_CLASSES,
    LabelRaster,
    SlideClass,
    check_classes,
    tile_labels,
    tile_shares,
)
from osml.imaging.slides_geojson import read_geojson, write_geojson
from osml.imaging.slides_grid import tile_grid
from osml.imaging.slides_labels import label_raster, raster_shape
from osml.imaging.slides_polygons import fill, outlines
from osml.imaging.slides_tissue import find_tissue

pytest.importorskip("openslide", reason="the extra `slides` is not installed")
CLASSES = (SlideClass("BG", (255, 255, 255)), SlideClass("VT", (200, 30, 40)), SlideClass("NC", (60, 60, 60)))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    path = tmp_path_factory.mktemp("slide") / "P3.tif"
    return open_slide(write_tiff(path, picture(800, 1200), mpp=1.0, compression="none"))


def square(x: float, y: float, w: float, h: float | None = None) -> dict[str, Any]:
    low = y + (w if h is None else h)
    return {"type": "Polygon", "coordinates": [[[x, y], [x + w, y], [x + w, low], [x, low], [x, y]]]}


def feature(name: str | None, geometry: dict[str, Any]) -> dict[str, Any]:
    kind = {} if name is None else {"classification": {"name": name, "color": [1, 2, 3]}}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation", **kind}}


def write(folder: Path, *features: dict[str, Any], collection: bool = True) -> Path:
    path = folder / "a.geojson"
    data: Any = {"type": "FeatureCollection", "features": list(features)} if collection else list(features)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6), st.floats(0.1, 0.95))
def test_outlines_and_filling_are_inverses(h: int, w: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((h, w)) < share
    pieces = outlines(mask)
    label, n = ndimage.label(mask)
    assert len(pieces) == n
    assert np.array_equal(fill([piece.rings for piece in pieces], mask.shape), mask)
    for piece in pieces:
        one = fill([piece.rings], mask.shape)
        assert len(np.unique(label[one])) == 1
        assert piece.area == one.sum()
        assert all((ring[0] == ring[-1]).all() for ring in piece.rings)
        # The outer ring first: it alone covers all others.
        assert fill([piece.rings[:1]], mask.shape).sum() >= one.sum()


def test_small_pieces_are_left_out() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[0, :2] = mask[4:8, 4:8] = True
    assert [piece.area for piece in outlines(mask, 3)] == [16]
    assert outlines(mask[:0]) == []


def test_a_slanted_outline_fills_the_pixels_whose_middle_it_holds() -> None:
    triangle = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [0.0, 0.0]])
    y, x = np.mgrid[:10, :10] + 0.5
    assert np.array_equal(fill([(triangle,)], (10, 10)), x + y < 10)
    assert not fill([(triangle + 40,)], (10, 10)).any()


def test_a_class_map_and_its_geojson_are_the_same(slide: Slide, tmp_path: Path) -> None:
    shape, scale = raster_shape(slide, 7.3)
    assert shape == (110, 165)
    rng = np.random.default_rng(1)
    labels = ndimage.zoom(rng.integers(0, 4, (11, 17)), 10, order=0)[:110, :165].astype(np.uint8)
    labels[labels == 3] = NOTHING
    path = tmp_path / "a.geojson"
    n = write_geojson(path, LabelRaster(labels, scale, 7.3), CLASSES, (slide.width, slide.height))
    assert n == sum(ndimage.label(labels == k)[1] for k in range(3))
    found = label_raster(slide, path, CLASSES, mpp=7.3)
    # The middle of the last column lies beyond the slide.
    assert np.array_equal(found.labels[:, :-1], labels[:, :-1])
    assert found.notes == ()
    first = json.loads(path.read_text())["features"][0]
    assert first["properties"] == {
        "objectType": "annotation", "classification": {"name": "BG", "color": [255, 255, 255]},
    }  # fmt: skip
    assert max(annotation.bounds[2] for annotation in read_geojson(path)) == slide.width
    again = tmp_path / "b.geojson"
    write_geojson(again, LabelRaster(labels, scale, 7.3), CLASSES, (slide.width, slide.height))
    assert path.read_bytes() == again.read_bytes()
    write_geojson(again, LabelRaster(labels, scale, 7.3), CLASSES, (1200, 800), skip=["BG"], min_area_um2=1e9)
    assert read_geojson(again) == ()


def test_what_qupath_writes_in_its_versions(slide: Slide, tmp_path: Path) -> None:
    ring = square(500, 300, 40)["coordinates"][0]
    several = {"type": "MultiPolygon", "coordinates": [[ring], square(600, 300, 40)["coordinates"]]}
    old = {"type": "Feature", "id": "PathAnnotationObject", "geometry": several,
           "properties": {"classification": {"name": "VT", "colorRGB": -3670016}, "isLocked": False}}  # fmt: skip
    derived = feature(None, {"type": "GeometryCollection", "geometries": [square(500, 400, 50)]})
    derived["properties"]["classification"] = {"names": ["NC", "old"]}
    path = write(tmp_path, old, derived, collection=False)
    assert [(a.name, a.number, a.area) for a in read_geojson(path)] == [("VT", 1, 3200), ("NC: old", 2, 2500)]
    found = label_raster(slide, path, CLASSES, mpp=1.0, rename={"NC: old": "NC"})
    assert found.areas_mm2(3) * 1e6 == pytest.approx([0, 3200, 2500])
    left_out = label_raster(slide, path, CLASSES, mpp=1.0, rename={"NC: old": ""})
    assert left_out.areas_mm2(3) * 1e6 == pytest.approx([0, 3200, 0])


def test_the_smaller_annotation_lies_on_top_and_the_overlap_is_told(slide: Slide, tmp_path: Path) -> None:
    path = write(tmp_path, feature("NC", square(500, 300, 50)), feature("VT", square(400, 250, 300)))
    found = label_raster(slide, path, CLASSES, mpp=1.0)
    assert (found.labels[320, 520], found.labels[260, 410], found.labels[0, 0]) == (2, 1, NOTHING)
    assert found.notes == ("annotations of different classes overlap on 0.0025 mm²: the smaller one counts",)


@pytest.mark.parametrize(
    "features, words",
    [
        ([feature("Tumor", square(500, 300, 50))], r"P3: a\.geojson: annotations of unknown classes: 'Tumor' \(1\)"),
        ([feature(None, square(500, 300, 50))], r"no class \(1\)"),
        ([feature("VT", square(1100, 300, 300))], r"1 of 1 annotations lie outside .* x 1100 to 1400.* 1200×800"),
        ([feature("VT", square(-300, 300, 100))], "outside the slide"),
        ([feature("VT", {"type": "Point", "coordinates": [1, 2]})], "annotation 1 is a Point; regions"),
        ([feature("VT", {"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]})], "fewer than three corners"),
        ([feature("VT", {"type": "Polygon", "coordinates": [[["a", 2], [3, 4], [4, 4]]]})], "are no numbers"),
        ([feature("VT", {"type": "Polygon", "coordinates": []})], "annotation 1 is empty"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(
    slide: Slide, tmp_path: Path, features: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(AnnotationError, match=words):
        label_raster(slide, write(tmp_path, *features), CLASSES, mpp=2.0)


def test_coordinates_of_another_level_are_seen_by_the_tissue(slide: Slide, tmp_path: Path) -> None:
    tissue = find_tissue(slide)
    right = [feature("VT", square(520, 330, 200)), feature("NC", square(300, 350, 150))]
    assert label_raster(slide, write(tmp_path, *right), CLASSES, mpp=2.0, tissue=tissue).notes == ()
    quarter = [feature("VT", square(520 / 4, 330 / 4, 200 / 4)), feature("NC", square(300 / 4, 350 / 4, 150 / 4))]
    with pytest.raises(AnnotationError, match=r"in pixels of level 2: .* \d+ % would if scaled by 4"):
        label_raster(slide, write(tmp_path, *quarter), CLASSES, mpp=2.0, tissue=tissue)
    glass = [feature("BG", square(5, 5, 60))]
    assert (
        label_raster(slide, write(tmp_path, *glass), CLASSES, mpp=2.0, tissue=tissue, background=["BG"]).labels[9, 9]
        == 0
    )
    with pytest.raises(AnnotationError, match="no annotation lies on tissue"):
        label_raster(slide, write(tmp_path, feature("VT", square(1130, 10, 60))), CLASSES, mpp=2.0, tissue=tissue)


def test_files_that_are_no_annotation(slide: Slide, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[1, 2]")
    for name, words in (("a.json", "cannot be read as GeoJSON"), ("b.json", "no list"), ("c.json", "no such file")):
        with pytest.raises(AnnotationError, match=words):
            label_raster(slide, tmp_path / name, CLASSES, mpp=1.0)


def colour_mask(path: Path, h: int = 80, w: int = 120) -> np.ndarray:
    numbers = np.full((h, w), NOTHING, dtype=np.uint8)
    numbers[10:40, 10:60] = 1
    numbers[50:70, 30:110] = 2
    numbers[:5] = 0
    colours = np.zeros((256, 3), dtype=np.uint8)
    for k, kind in enumerate(CLASSES):
        colours[k] = kind.colour
    Image.fromarray(colours[numbers]).save(path)
    return numbers


def test_a_picture_in_the_classes_colours(slide: Slide, tmp_path: Path) -> None:
    numbers = colour_mask(tmp_path / "m.png")
    assert np.array_equal(label_raster(slide, tmp_path / "m.png", CLASSES, mpp=10.0).labels, numbers)
    fine = label_raster(slide, tmp_path / "m.png", CLASSES, mpp=2.5)
    assert np.array_equal(fine.labels, numbers.repeat(4, axis=0).repeat(4, axis=1))
    # Half the scale: each pixel of the raster has its middle in one of four pixels of the mask.
    assert np.array_equal(label_raster(slide, tmp_path / "m.png", CLASSES, mpp=20.0).labels, numbers[1::2, 1::2])


def test_pictures_that_do_not_fit(slide: Slide, tmp_path: Path) -> None:
    colour_mask(tmp_path / "m.png")
    shown = np.asarray(Image.open(tmp_path / "m.png")).copy()
    shown[30:32, 20:30] = (201, 30, 40)
    Image.fromarray(shown).save(tmp_path / "n.png")
    with pytest.raises(AnnotationError, match=r"1 colours of no class on 0\.21 % .* mostly \(201, 30, 40\)"):
        label_raster(slide, tmp_path / "n.png", CLASSES, mpp=10.0)
    Image.fromarray(shown[:60]).save(tmp_path / "o.png")
    with pytest.raises(AnnotationError, match=r"o\.png is 120×60; the slide is 1200×800, another shape"):
        label_raster(slide, tmp_path / "o.png", CLASSES, mpp=10.0)
    with pytest.raises(AnnotationError, match="JPEG changes colours"):
        label_raster(slide, tmp_path / "o.jpg", CLASSES, mpp=10.0)


def test_tiles_are_labelled_by_what_covers_them(slide: Slide) -> None:
    labels = np.full((80, 120), NOTHING, dtype=np.uint8)
    labels[:, :40] = 1
    labels[:, 40:60] = 2
    grid = tile_grid(slide, mpp=1.0, size=400)
    shares = tile_shares(grid, np.arange(grid.count), LabelRaster(labels, 10.0, 10.0), 3)
    assert shares.tolist() == [[0, 1, 0], [0, 0, 0.5], [0, 0, 0]] * 2
    assert tile_labels(shares, 0.4).tolist() == [1, 2, -1] * 2
    assert tile_labels(shares, 0.6).tolist() == [1, -1, -1] * 2


def test_classes_are_told_apart() -> None:
    check_classes(PAPER_CLASSES)
    with pytest.raises(InvalidInputError, match="share the name A"):
        check_classes([SlideClass("A", (1, 2, 3)), SlideClass("A", (1, 2, 4))])
    with pytest.raises(InvalidInputError, match="share the colour"):
        check_classes([SlideClass("A", (1, 2, 3)), SlideClass("B", (1, 2, 3))])
    with pytest.raises(InvalidInputError, match="0 classes"):
        check_classes([])
