"""Pictures of lesions: a deterministic spread over outcomes and sizes, the regions that were measured, and no name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_studies import schema_data, simulate_rows, write_table

from osml.cohort.build import read_cohort
from osml.cohort.cohort import BinaryOutcome, Cohort, FeatureTable
from osml.schema.load import LoadedSchema, load_schema
from osml.study.montage import outline_distances, spread_units, write_montage

N = 16


def cohort_of(event: list[bool]) -> Cohort:
    names = tuple(f"P{i}" for i in range(len(event)))
    outcome = BinaryOutcome(np.array(event, dtype=float), "bad", "good")
    return Cohort(names, names, np.zeros(len(event), dtype=np.intp), {}, {}, {}, outcome)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=40))
def test_units_are_spread_over_outcomes_and_sizes(rows: list[tuple[bool, int]]):
    event, size = [a for a, _ in rows], np.array([b for _, b in rows], dtype=float)
    found = spread_units(cohort_of(event), size)
    assert len(found) == len(set(found)) == min(12, len(rows))
    for kind in (True, False):
        mine, all_of = [i for i in found if event[i] == kind], [i for i, e in enumerate(event) if e == kind]
        assert len(mine) >= min(6, len(all_of))
        assert [size[i] for i in mine] == sorted(size[i] for i in mine)
        if len(mine) > 1:
            assert {size[mine[0]], size[mine[-1]]} == {size[all_of].min(), size[all_of].max()}


def test_outlines_are_where_regions_begin_or_end():
    assert outline_distances(("tumour",)) == ()
    assert outline_distances(("tumour", "2-4mm", "tumour+6mm")) == (2.0, 4.0, 6.0)


@pytest.fixture
def imaged(tmp_path: Path) -> tuple[LoadedSchema, Cohort]:
    """Sixteen patients with a small volume each; the cohort holds features, so the montage is wanted."""
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(4)
    rows = simulate_rows(N)
    for i, row in enumerate(rows):
        grey, mask = rng.normal(100, 20, (6, 24, 24)), np.zeros((6, 24, 24), dtype=np.uint8)
        mask[2 : 4 + i % 2, 8 : 12 + i // 4, 8:13] = 1
        for name, array in ((f"{row['id']}.nii.gz", grey), (f"{row['id']}_mask.nii.gz", mask)):
            picture = sitk.GetImageFromArray(array)
            picture.SetSpacing((1.0, 1.0, 3.0))
            sitk.WriteImage(picture, str(tmp_path / name))
        row["t1"], row["t1_mask"] = f"{row['id']}.nii.gz", f"{row['id']}_mask.nii.gz"
    write_table(tmp_path / "table.csv", rows)
    inputs: dict[str, Any] = {
        "age": {"kind": "number", "available": "diagnosis"},
        "t1": {"kind": "volume", "mask": {"column": "t1_mask"}, "available": "diagnosis"},
        "rad": {"kind": "radiomics", "of": "t1", "regions": ["tumour", "0-2mm"], "leaving": "clip"},
    }
    predictors = {"radscore": {"kind": "radscore", "inputs": ["rad"]}}
    (tmp_path / "study.yaml").write_text(json.dumps(schema_data(predictors, inputs=inputs)))
    loaded = load_schema(tmp_path / "study.yaml")
    cohort = read_cohort(loaded).cohort
    volume = np.arange(N, dtype=float)[:, None]
    table = FeatureTable(("t1|tumour|original_shape_VoxelVolume",), volume)
    return loaded, replace(cohort, features={"rad": table})


@pytest.mark.full
def test_a_montage_is_written_the_same_each_time_without_names(imaged: tuple[LoadedSchema, Cohort], tmp_path: Path):
    loaded, cohort = imaged
    for run in ("one", "two"):
        write_montage(loaded, cohort, tmp_path / run)
    files = sorted(p.name for p in (tmp_path / "one" / "cohort").iterdir())
    assert files == ["montage_rad.json", "montage_rad.png"]
    first = (tmp_path / "one" / "cohort" / "montage_rad.png").read_bytes()
    assert first == (tmp_path / "two" / "cohort" / "montage_rad.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    text = (tmp_path / "one" / "cohort" / "montage_rad.json").read_text()
    facts = json.loads(text)
    assert facts["outlines_mm"] == [2.0]
    assert facts["left_out"] == 0
    assert len(facts["tiles"]) == 12
    assert not [u for u in cohort.units if u in text]
    # 2 or 3 slices of 5 columns and 4 to 7 rows, 3 mm³ a voxel.
    sizes = {round(0.003 * slices * 5 * high, 3) for slices in (2, 3) for high in (4, 5, 6, 7)}
    assert {tile["size"] for tile in facts["tiles"]} <= sizes
    assert {round(tile["share"], 2) for tile in facts["tiles"]} <= {0.5, 0.33}
    assert {tile["outcome"] for tile in facts["tiles"]} == {"bad", "good"}


def test_an_image_that_is_gone_is_left_out_and_counted(imaged: tuple[LoadedSchema, Cohort], tmp_path: Path):
    loaded, cohort = imaged
    unit = spread_units(cohort, np.arange(N, dtype=float))[0]
    (loaded.table_path.parent / cohort.files["t1"][unit]).unlink()
    write_montage(loaded, cohort, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "cohort" / "montage_rad.json").read_text())
    assert (facts["left_out"], len(facts["tiles"])) == (1, 11)


def test_a_cohort_without_features_gets_no_montage(imaged: tuple[LoadedSchema, Cohort], tmp_path: Path):
    loaded, cohort = imaged
    write_montage(loaded, replace(cohort, features={}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
