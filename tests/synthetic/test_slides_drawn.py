"""Synthetic slides: masks, annotations and rates agree with the pixels; regions are smooth; bytes are the same."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import data_path
from PIL import Image
from scipy import ndimage

from osml.cli import main
from osml.errors import EXIT_FINE, EXIT_USER, InvalidInputError
from osml.files import read_json
from osml.imaging.slides import open_slide
from osml.imaging.slides_classes import PAPER_CLASSES
from osml.imaging.slides_labels import label_raster
from osml.imaging.slides_tissue import find_tissue
from osml.synthetic.slide_mosaics import MIN_TILES, assign_sources, read_tiles_table, write_mosaics
from osml.synthetic.slide_regions import CELL, NAMES, draw_regions, necrosis_rate
from osml.synthetic.slide_textures import SIDE, draw_texture, periodic_noise
from osml.synthetic.slides import COLUMNS, write_slides
from osml.synthetic.tissue import REFERENCE

pytest.importorskip("openslide", reason="the extra `slides` is not installed")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    write_slides(folder, 2, seed=3, max_slides=1, sides=(1024, 1280), workers=1)
    return folder


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_table_names_slides_masks_and_annotations(written: Path) -> None:
    rows = rows_of(written / "slides.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [row["slide"] for row in rows] == ["SLI001-A", "SLI002-A"]
    assert all((written / row[what]).is_file() for row in rows for what in ("path", "mask", "annotation"))
    said = read_json(written / "truth.json")
    assert said["synthetic"] is True
    assert [kind["name"] for kind in said["classes"]] == list(NAMES) == [kind.name for kind in PAPER_CLASSES]
    assert "no row describes a real person" in (written / "SYNTHETIC.txt").read_text()


def test_mask_annotation_rate_and_pixels_agree(written: Path) -> None:
    for row in rows_of(written / "slides.csv"):
        with open_slide(written / row["path"]) as slide:
            assert (slide.mpp, len(slide.levels)) == (pytest.approx(0.5), 3)
            mpp = 0.5 * CELL
            tissue = find_tissue(slide)
            masked = label_raster(slide, written / row["mask"], PAPER_CLASSES, mpp=mpp).labels
            outlined = label_raster(slide, written / row["annotation"], PAPER_CLASSES, mpp=mpp, tissue=tissue).labels
            assert np.array_equal(outlined[masked > 0], masked[masked > 0])
            assert (outlined[masked == 0] == 255).all()
            counts = np.bincount(masked.ravel(), minlength=7)
            rate = counts[2:6].sum() / counts[1:6].sum()
            assert float(row["necrosis_rate"]) == pytest.approx(rate, abs=1e-6)
            found = ndimage.zoom(tissue.inside, tissue.scale / CELL, order=0)[: masked.shape[0], : masked.shape[1]]
            true = (masked > 0)[: found.shape[0], : found.shape[1]]
            assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.85


@pytest.mark.full
def test_the_same_seed_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_slides(tmp_path, 2, seed=3, max_slides=1, sides=(1024, 1280), workers=2)
    names = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert len(names) == 3 * 2 + 3
    assert all((written / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_regions_are_smooth_and_follow_their_weights() -> None:
    shares = []
    for seed in range(6):
        regions = draw_regions((300, 320), [0, 0.6, 0.2, 0.1, 0, 0, 0.1], np.random.default_rng(seed))
        counts = np.bincount(regions.truth.ravel(), minlength=7)
        assert 0.15 < counts[1:].sum() / counts.sum() < 0.75
        assert (counts[[4, 5]] == 0).all()
        shares.append(counts[1:] / counts[1:].sum())
        # A border of glass, and no line of borders between regions longer than smooth ones have.
        assert not regions.truth[:4].any()
        edges = (regions.truth[1:] != regions.truth[:-1]).mean()
        assert edges < 0.05
        wrong = (regions.drawn != regions.truth).sum() / counts[1:].sum()
        assert 0.05 < wrong < 0.35
        assert not ((regions.drawn > 0) ^ (regions.truth > 0)).any()
    assert np.mean(shares, axis=0)[0] > 0.4 > np.mean(shares, axis=0)[1] > 0.08
    honest = draw_regions((100, 100), [0, 1, 1, 0, 0, 0, 0], np.random.default_rng(1), deceiving=0.0)
    assert np.array_equal(honest.truth, honest.drawn)


def test_the_rate_counts_four_of_five_classes_of_tumour() -> None:
    assert necrosis_rate(np.array([[0, 1, 1, 1, 2, 3, 4, 5, 6]], dtype=np.uint8)) == pytest.approx(4 / 7)
    assert necrosis_rate(np.array([[0, 6]], dtype=np.uint8)) is None


def test_textures_differ_and_continue_over_their_borders() -> None:
    rng = np.random.default_rng(4)
    field = periodic_noise((3, 11), rng)
    assert field.shape == (SIDE, SIDE)
    assert np.abs(field[0] - field[-1]).mean() < 1.5 * np.abs(field[1] - field[2]).mean()
    assert np.abs(field[:, 0] - field[:, -1]).mean() < 1.5 * np.abs(field[:, 1] - field[:, 2]).mean()
    pictures = {name: draw_texture(name, rng).colour(REFERENCE, rng) for name in ("BG", "VT", "IF", "HC")}
    dark = {name: float((picture[..., 0] < 140).mean()) for name, picture in pictures.items()}
    assert dark["BG"] == 0
    assert dark["IF"] > dark["HC"]
    red = {name: float(picture[..., 0].mean() - picture[..., 2].mean()) for name, picture in pictures.items()}
    assert red["HC"] > red["VT"] + 20


def tiles_folder(folder: Path, sources: int = 3) -> Path:
    """Tiles of flat colours: a table in the format of real ones; viable red, non-viable grey, non-tumour green."""
    colours = {"viable": (200, 60, 60), "non_viable": (120, 90, 110), "non_tumor": (90, 170, 110), "mixed": (1, 2, 3)}
    lines = ["tile,image,patient,slide,x,y,tissue"]
    (folder / "tiles").mkdir(parents=True)
    for tissue, colour in colours.items():
        for s in range(sources):
            for k in range(MIN_TILES):
                name = f"{tissue}-{s}-{k}"
                pixels = np.full((56, 56, 3), colour, dtype=np.uint8)
                pixels[:8] = 240 if k else colour
                Image.fromarray(pixels).save(folder / f"tiles/{name}.png")
                lines.append(f"{name},tiles/{name}.png,p{s},{tissue}-{s},0,0,{tissue}")
    (folder / "tiles.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_mosaics_set_tiles_of_their_own_sources_into_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osml.synthetic.slide_mosaics._SIDES", (1024, 1024))
    tiles = tiles_folder(tmp_path / "real")
    rows = write_mosaics(tmp_path / "out", tiles, seed=1, max_slides=1, mpp=2.0, workers=1)
    assert [row.patient for row in rows] == ["MOS001", "MOS002", "MOS003"]
    table = rows_of(tmp_path / "out" / "slides.csv")
    sources = [set(row["sources"].split("; ")) for row in table]
    assert all(len(source) == 3 for source in sources)
    assert not (sources[0] & sources[1] | sources[1] & sources[2])
    assert "optimistic" in (tmp_path / "out" / "SYNTHETIC.txt").read_text()
    for row in table:
        with open_slide(tmp_path / "out" / row["path"]) as slide:
            pixels = slide.read(0, 0, 0, slide.width, slide.height)
            labels = label_raster(slide, tmp_path / "out" / row["mask"], PAPER_CLASSES, mpp=slide.mpp).labels
        for name, colour in (("VT", (200, 60, 60)), ("NC", (120, 90, 110)), ("NT", (90, 170, 110))):
            inside = ndimage.binary_erosion(labels == NAMES.index(name), iterations=12)
            if inside.sum() > 5000:
                assert np.abs(np.median(pixels[inside], axis=0) - colour).max() < 8


def test_every_class_comes_from_a_slide_of_its_own() -> None:
    def has(**counts: int) -> dict[str, list[Path]]:
        return {kind: [Path(f"{k}.png") for k in range(n)] for kind, n in counts.items()}

    slides = {"a": has(NC=9, NT=9), "b": has(VT=9, NT=9), "c": has(NT=9), "d": has(NC=9), "e": has(VT=9, NC=2),
              "f": has(NT=9), "g": has(NT=3)}  # fmt: skip
    groups = assign_sources(slides)
    assert len(groups) == 2
    assert {name for group in groups for name in group.slides} == {"a", "b", "c", "d", "e", "f"}
    with pytest.raises(InvalidInputError, match="the tiles give 1 patients"):
        assign_sources({name: slides[name] for name in "abc"})


def test_bad_calls_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="1 patients"):
        write_slides(tmp_path / "out", 1)
    with pytest.raises(InvalidInputError, match="no such file"):
        write_mosaics(tmp_path / "out", tmp_path)
    (tmp_path / "tiles.csv").write_text("tile,image\n")
    with pytest.raises(InvalidInputError, match="columns slide, tissue are missing"):
        read_tiles_table(tmp_path)
    real = tiles_folder(tmp_path / "real")
    with pytest.raises(InvalidInputError, match="9 patients are asked for; the tiles give 2 to 3"):
        write_mosaics(tmp_path / "out", real, 9)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def synth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls `osml synth slides WORDS` in this process: exit code, output, errors."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["osml", "synth", "slides", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return call


def test_the_scale_of_tiles_needs_tiles(synth: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, err = synth("-o", tmp_path / "a", "--tiles-mpp", 2)
    assert code == EXIT_USER
    assert "Add --tiles FOLDER." in err
    assert not (tmp_path / "a").exists()


@pytest.mark.full
def test_the_command_writes_slides_of_full_size(synth: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = synth("-o", tmp_path, "--patients", 2, "--seed", 1)
    assert code == EXIT_FINE
    assert "2 synthetic patients, no real person" in out
    with open_slide(tmp_path / rows_of(tmp_path / "slides.csv")[0]["path"]) as slide:
        assert 4096 <= min(slide.width, slide.height) <= max(slide.width, slide.height) <= 6144


@pytest.mark.data
@pytest.mark.full
def test_mosaics_of_the_real_tiles(synth: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = synth("-o", tmp_path, "--tiles", data_path("osteosarcoma_tiles"), "--patients", 2)
    assert code == EXIT_FINE
    assert "2 invented patients, mosaics of real tiles: results are optimistic" in out
    with open_slide(tmp_path / rows_of(tmp_path / "slides.csv")[0]["path"]) as slide:
        assert slide.mpp == pytest.approx(1024 / 448)
        assert find_tissue(slide).area_mm2 > 5
