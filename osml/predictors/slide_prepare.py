"""A slide made ready: tissue, tiles, their vectors, a picture and labels on the cells of its map; kept by content.

Everything here is of one slide alone and learns nothing from it, so it may be done before the folds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from osml.cache import content_key
from osml.errors import VerificationError
from osml.files import json_text, read_json, sha256_file
from osml.imaging.errors import AnnotationError
from osml.imaging.slides import Slide, open_slide
from osml.imaging.slides_batches import tile_batches
from osml.imaging.slides_classes import NOTHING, LabelRaster, tile_labels, tile_shares
from osml.imaging.slides_draw import picture_view, thumbnail
from osml.imaging.slides_files import whole_folder, write_whole
from osml.imaging.slides_grid import TileGrid, area_shares, cover, tile_grid
from osml.imaging.slides_job import slide_key
from osml.imaging.slides_labels import label_raster
from osml.imaging.slides_stitch import MapFrame, map_frame
from osml.imaging.slides_tissue import Overview, Tissue, find_tissue, overview
from osml.nets.encoders import Encoder
from osml.predictors.slide_maps import cells_of
from osml.predictors.slide_recipe import CELLS, SlideCase, SlideRecipe
from osml.predictors.slide_vectors import encoder_key, encoder_pieces, frozen_encoder, tile_vectors

# Part of the key: raise it when a prepared slide would differ.
VERSION = "slide-3"
# Share of a tile: less tissue has no class.
_LEAST_TISSUE = 0.02


@dataclass(frozen=True, eq=False)
class PreparedSlide:
    """A slide whose arrays lie in a folder and are read as they are needed.

    Attributes
    ----------
    case : the slide
    grid, frame : its tiles and the cells of its maps
    size : width and height of level 0; mpp : of level 0
    thumbnail_scale : pixels of level 0 per pixel of `thumbnail`
    tissue_mm2 : area of tissue
    notes : what a reader should know
    """

    case: SlideCase
    folder: Path
    grid: TileGrid
    frame: MapFrame
    size: tuple[int, int]
    mpp: float
    thumbnail_scale: float
    tissue_mm2: float
    notes: tuple[str, ...]

    @cached_property
    def tiles(self) -> NDArray[np.int64]:
        """Numbers of the tiles with tissue, (n,)."""
        return self._array("tiles")

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """uint8 (h, w, 3), the slide on the cells."""
        return self._array("picture")

    @cached_property
    def thumbnail(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), the slide with at most 2,048 px along its longer side."""
        return self._array("thumbnail")

    @cached_property
    def tissue(self) -> NDArray[np.uint8]:
        """uint8 (h, w): 255 times the share of each cell that is tissue."""
        return self._array("tissue")

    @property
    def annotated(self) -> bool:
        """Whether it has labels."""
        return self.case.annotation is not None

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """uint8 (h, w): class of each cell, `NOTHING` where nobody said; of an annotated slide."""
        return self._array("labels")

    @cached_property
    def tile_labels(self) -> NDArray[np.int64]:
        """(n,) class of each tile's tissue, -1 where none covers half of it; of an annotated slide."""
        return self._array("tile_labels")

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """float32 (n, 1 + copies, width); of a frozen encoder."""
        return self._array("vectors")

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8 (n, size, size, 3); of an annotated slide whose encoder is trained."""
        return self._array("pixels")

    @property
    def raster(self) -> LabelRaster:
        """The annotation as a raster."""
        return LabelRaster(self.labels, self.frame.scale, self.frame.mpp)

    def _array(self, name: str) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        if not path.is_file():
            raise VerificationError(
                f"{self.case.slide}: {path} is missing", do="Delete its folder in the cache and run the command again."
            )
        return np.load(path, mmap_mode="r", allow_pickle=False)


@dataclass(frozen=True)
class Plan:
    """What is seen of a slide before the encoder looks: its overview, tissue, tiles and cells."""

    view: Overview
    tissue: Tissue
    grid: TileGrid
    frame: MapFrame
    tiles: NDArray[np.int64]


def plan_slide(slide: Slide, recipe: SlideRecipe, picture: Path | None) -> Plan:
    """Find tissue and lay tiles over it.

    Parameters
    ----------
    picture : PNG to write where no tissue is found

    Raises
    ------
    NoTissueError, ScaleError, UnreadableError
    """
    overlap = recipe.size_px - recipe.stride_px
    grid = tile_grid(slide, mpp=recipe.mpp, size=recipe.size_px, overlap=overlap)
    frame = map_frame(slide, grid, CELLS)
    view = overview(slide)
    tissue = find_tissue(slide, view, thumbnail=picture)
    tiles = np.flatnonzero(cover(grid, tissue) >= max(recipe.min_tissue, 1e-9))
    return Plan(view, tissue, grid, frame, tiles)


def prepare_slide(
    case: SlideCase, recipe: SlideRecipe, *, cache: Path, device: str, encoder: Encoder | None = None
) -> PreparedSlide:
    """Tissue, tiles, vectors and labels of a slide; from `cache` where file, annotation and recipe are equal.

    Parameters
    ----------
    case : with an annotation it also gets labels, and what training draws from (stained copies; pixels where the
        encoder is trained: about 0.2 MB per tile)
    cache : folder. About 3 kB per tile of the default encoder, and 8 bytes per cell
    device : where the encoder runs
    encoder : the recipe's frozen encoder, if it is there already; None: it is built

    Raises
    ------
    ImagingError
        The slide or its annotation cannot be used: unreadable, without mpp, without tissue (a thumbnail is then written
        into the cache and named), an annotation that does not fit.
    OsmlError
        The disk is full; nothing is left.
    """
    if recipe.encoder.tune != "frozen":
        encoder = None
    elif encoder is None:
        encoder = frozen_encoder(recipe.encoder)
    with open_slide(case.path, mpp=case.mpp, name=case.slide) as slide:
        annotated: tuple[str, ...] = ()
        if case.annotation is not None:
            if not case.annotation.is_file():
                raise AnnotationError(f"{case.slide}: {case.annotation}: no such file")
            annotated = (sha256_file(case.annotation), repr([(c.name, c.colour) for c in recipe.classes]))
        source = slide_key(case.path)
        pixels = recipe.encoder.tune != "frozen" and case.annotation is not None
        key = content_key(
            [VERSION, source, repr(case.mpp), case.slide, *annotated, str(recipe.encoder.copies), str(pixels),
             repr((recipe.size_px, recipe.stride_px, recipe.mpp, recipe.min_tissue, CELLS)),
             *(encoder_key(encoder, device) if encoder is not None else ("tuned", repr(recipe.encoder)))]
        )  # fmt: skip
        place = cache / "slides" / key[:2] / key
        if (place / "facts.json").is_file():
            return _opened(case, place)
        plan = plan_slide(slide, recipe, cache / "slides" / "no-tissue" / f"{case.slide}.png")
        with whole_folder(place) as made:
            notes = list(slide.notes)
            shrunk = _write_cells(slide, plan, made)
            if case.annotation is not None:
                notes += _write_labels(slide, plan, case.annotation, recipe, made)
            if encoder is not None:
                shape = (len(plan.tiles), 1 + (recipe.encoder.copies if annotated else 0), encoder.width)
                out = _on_disk(made / "vectors.npy", np.float32, shape)
                for batch in tile_vectors(
                    slide, plan.grid, plan.tiles, encoder, device=device, copies=shape[1] - 1,
                    seed=int(source[:15], 16),
                ):  # fmt: skip
                    out[np.searchsorted(plan.tiles, batch.tiles)] = batch.values
                out.flush()
            if pixels:
                _write_pixels(slide, plan, recipe, made)
            facts = {
                "grid": asdict(plan.grid), "frame": asdict(plan.frame), "size": [slide.width, slide.height],
                "mpp": slide.mpp, "thumbnail_scale": shrunk, "tissue_mm2": plan.tissue.area_mm2, "notes": notes,
            }  # fmt: skip
            write_whole(made / "facts.json", json_text(facts))
    return _opened(case, place)


@contextmanager
def slide_of(prepared: PreparedSlide) -> Iterator[Slide]:
    """The slide, open."""
    with open_slide(prepared.case.path, mpp=prepared.case.mpp, name=prepared.case.slide) as slide:
        yield slide


def _opened(case: SlideCase, place: Path) -> PreparedSlide:
    facts = read_json(place / "facts.json")
    frame = facts["frame"] | {"shape": tuple(facts["frame"]["shape"])}
    return PreparedSlide(
        case, place, TileGrid(**facts["grid"]), MapFrame(**frame), tuple(facts["size"]), facts["mpp"],
        facts["thumbnail_scale"], facts["tissue_mm2"], tuple(facts["notes"]),
    )  # fmt: skip


def _write_cells(slide: Slide, plan: Plan, folder: Path) -> float:
    """What is seen on the cells, and a picture to look at, whose pixels of level 0 per pixel are returned."""
    np.save(folder / "tiles.npy", plan.tiles)
    np.save(folder / "picture.npy", cells_of(plan.view.pixels, plan.view.scale, plan.frame, 255))
    inside = plan.tissue.inside.astype(np.uint8) * np.uint8(255)
    np.save(folder / "tissue.npy", cells_of(inside, plan.tissue.scale, plan.frame, 0))
    view = picture_view(slide, plan.view)
    small = thumbnail(view)
    np.save(folder / "thumbnail.npy", small)
    return view.scale * view.pixels.shape[1] / small.shape[1]


def _write_labels(slide: Slide, plan: Plan, path: Path, recipe: SlideRecipe, folder: Path) -> tuple[str, ...]:
    background = recipe.names[:1]
    raster = label_raster(
        slide, path, recipe.classes, mpp=plan.frame.mpp, tissue=plan.tissue, background=background
    )  # fmt: skip
    if raster.labels.shape != plan.frame.shape:
        raise AnnotationError(f"{slide.name}: labels of {raster.labels.shape} cells, the map has {plan.frame.shape}")
    if (raster.labels == NOTHING).all():
        raise AnnotationError(f"{slide.name}: {path.name}: nothing is annotated", do="Leave the path empty instead.")
    np.save(folder / "labels.npy", raster.labels)
    np.save(folder / "tile_labels.npy", _tile_labels(plan, raster, np.load(folder / "tissue.npy"), len(recipe.classes)))
    return raster.notes


def _tile_labels(plan: Plan, raster: LabelRaster, tissue: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Class of the tissue in each tile: what covers half of it or more; -1 where nothing does.

    Glass is seen without a classifier and does not count: a tile at a border, mostly glass, is of its tissue's class.
    """
    inside = tissue >= 128
    on_tissue = LabelRaster(np.where(inside, raster.labels, NOTHING).astype(np.uint8), raster.scale, raster.mpp)
    shares = tile_shares(plan.grid, plan.tiles, on_tissue, classes)
    whole = area_shares(inside, raster.scale, plan.grid.boxes(plan.tiles))
    labels = tile_labels(shares / np.maximum(whole, 1e-9)[:, None])
    return np.where(whole >= _LEAST_TISSUE, labels, -1)


def _on_disk(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """An array in a new .npy file whose room is taken: writing into a mapped file on a full disk ends the process."""
    out = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return out


def _write_pixels(slide: Slide, plan: Plan, recipe: SlideRecipe, folder: Path) -> None:
    encoder = frozen_encoder(recipe.encoder)  # for its size alone
    shape = (len(plan.tiles), encoder.size, encoder.size, 3)
    out = _on_disk(folder / "pixels.npy", np.uint8, shape)
    for batch in tile_batches(slide, plan.grid, plan.tiles, 64):
        sized = encoder_pieces(batch.pixels, encoder.size, encoder.interpolation)
        out[np.searchsorted(plan.tiles, batch.tiles)] = sized
    out.flush()
