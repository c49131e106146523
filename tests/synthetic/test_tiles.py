"""Synthetic tiles: the format of a real tile table, planted cells, and a stain that belongs to the patient."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label
from scipy.special import ndtr

from osml.errors import InvalidInputError
from osml.files import read_json
from osml.synthetic.tiles import (
    CLASSES,
    COLUMNS,
    PLANTED,
    TILE_SIZE,
    TRUTH_COLUMNS,
    TilesTruth,
    auc_of_cells,
    draw_tile,
    write_tiles,
)
from osml.synthetic.tissue import MPP, PIXELS, REFERENCE, Canvas, Cells, viable_tumour


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TilesTruth]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, write_tiles(folder, 4, seed=5, tiles_per_patient=8)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_the_columns_of_a_real_one(written: tuple[Path, TilesTruth]) -> None:
    folder, truth = written
    rows = rows_of(folder / "tiles.csv")
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len({row["tile"] for row in rows}) == 32
    assert len({row["patient"] for row in rows}) == 4
    assert {row["tissue"] for row in rows} <= set(CLASSES)
    assert truth.counts == {name: sum(row["tissue"] == name for row in rows) for name in CLASSES}
    # A slide belongs to one patient, and no two tiles overlap.
    assert len({(row["slide"], row["patient"]) for row in rows}) == len({row["slide"] for row in rows}) > 4
    places = {(row["slide"], row["x"], row["y"]) for row in rows}
    assert len(places) == 32
    assert all(int(row["x"]) % TILE_SIZE == int(row["y"]) % TILE_SIZE == 0 for row in rows)
    for row in rows:
        with Image.open(folder / row["image"]) as picture:
            assert (picture.size, picture.mode) == ((PIXELS, PIXELS), "RGB")


def test_the_truth_says_synthetic_and_names_every_tile(written: tuple[Path, TilesTruth]) -> None:
    folder, truth = written
    said = read_json(folder / "truth.json")
    assert (said["synthetic"], said["auc_of_cells"], said["mpp"]) == (True, truth.auc_of_cells, MPP)
    tissue = {row["tile"]: row["tissue"] for row in rows_of(folder / "tiles.csv")}
    planted = rows_of(folder / "truth.csv")
    assert tuple(planted[0]) == TRUTH_COLUMNS
    assert [row["tile"] for row in planted] == list(tissue)
    for row in planted:
        share, name = float(row["viable_share"]), tissue[row["tile"]]
        assert (share == 1) == (name == "viable")
        assert (0 < share < 1) == (name == "mixed")
        assert (row["cells_per_mm2"] == "") == (name == "non_tumor")


@pytest.mark.full
def test_the_same_seed_gives_the_same_bytes(written: tuple[Path, TilesTruth], tmp_path: Path) -> None:
    folder, _ = written
    write_tiles(tmp_path, 4, seed=5, tiles_per_patient=8)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(names) == 32 + 4
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_stains_differ_between_patients_more_than_between_slides() -> None:
    rng = np.random.default_rng(3)
    near, far = [], []
    for _ in range(40):
        laboratory = REFERENCE.shifted(1.4, rng)
        one, two = (laboratory.shifted(0.3, rng).strength for _ in range(2))
        near.append(np.log(one / two))
        far.append(np.log(laboratory.strength))
    assert np.std(near) < 0.6 * np.std(far)


def test_stain_moves_colour_but_not_the_drawing() -> None:
    other = REFERENCE.shifted(1.4, np.random.default_rng(2))
    one, two = (draw_tile("viable", np.random.default_rng(4), stain).astype(float) for stain in (REFERENCE, other))
    assert np.abs(one.mean(axis=(0, 1)) - two.mean(axis=(0, 1))).max() > 10
    assert np.corrcoef(one[..., 0].ravel(), two[..., 0].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("density", [600, 3000])
def test_as_many_nuclei_are_drawn_as_are_planted(density: int) -> None:
    found = []
    for seed in range(4):
        canvas = Canvas.empty()
        cells = Cells(density, 3.5, 0.1, 1.1, 1.0)
        viable_tumour(canvas, np.ones((PIXELS, PIXELS), dtype=np.float32), cells, np.random.default_rng(seed))
        found.append(label(canvas.h > 0.6)[1] / (PIXELS * MPP / 1000) ** 2)
    # Cells that would overlap are left out, some are pale, and touching ones count once.
    assert 0.55 * density < np.mean(found) < 1.1 * density


def test_classes_differ_in_darkness_as_their_density_says() -> None:
    dark = {
        name: [(draw_tile(name, np.random.default_rng([7, k]))[..., 0] < 130).mean() for k in range(10)]
        for name in ("viable", "non_viable")
    }
    assert np.median(dark["viable"]) > 1.5 * np.median(dark["non_viable"])


def test_the_auc_of_cells_follows_from_what_is_planted() -> None:
    # One feature of two normals of means a, b and SDs s, t: Phi((a - b) / sqrt(s² + t²)); both together do better.
    single = []
    for k in range(2):
        (alive, sd), (dead, other_sd) = PLANTED["viable"][k], PLANTED["non_viable"][k]
        single.append(ndtr((alive - dead) / np.hypot(sd, other_sd)))
    assert max(single) + 0.02 < auc_of_cells(rows=40_000) < 0.98


def test_too_few_or_unknown_tiles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="3 patients with 40 tiles are too few"):
        write_tiles(tmp_path, 3)
    assert not any(tmp_path.iterdir())
    with pytest.raises(InvalidInputError, match="'necrosis' is not known"):
        draw_tile("necrosis", np.random.default_rng(1))
