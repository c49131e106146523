"""`osml radiomics extract`: cache, failures as rows, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import write_csv_table
from radiomics_data import blob

from osml.cache import Cache, content_key
from osml.errors import InvalidInputError
from osml.imaging.volume import simple_itk, to_sitk
from osml.radiomics import Settings
from osml.radiomics.batch import extract_all, extract_file, read_images_table

HEADER = ("patient", "image", "mask", "name")


def write(folder: Path, patient: str, seed: int = 5, *, mask_value: int = 1, shift: float = 0.0) -> list[str]:
    """Image and mask of one patient on disk; its row of the table."""
    image, mask = blob(seed=seed)
    sitk = simple_itk()
    sitk.WriteImage(to_sitk(image), str(folder / f"{patient}.nii.gz"))
    label = to_sitk(mask.like(mask.array * mask_value))
    label.SetOrigin((shift, 0.0, 0.0))
    sitk.WriteImage(label, str(folder / f"{patient}_mask.nii.gz"))
    return [patient, f"{patient}.nii.gz", f"{patient}_mask.nii.gz", "t1"]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    rows = [
        write(tmp_path, "A"),
        write(tmp_path, "B", 6, mask_value=255),
        write(tmp_path, "moved", 7, shift=5.0),
        write(tmp_path, "empty", 8, mask_value=0),
        ["gone", "none.nii.gz", "none.nii.gz", "t1"],
        ["text", "images.csv", "images.csv", "t1"],
    ]
    return write_csv_table(tmp_path / "images.csv", rows, HEADER)


def run(images: Path, **options: object) -> tuple[int, list[str], pd.DataFrame]:
    said: list[str] = []
    out = images.parent / "features.parquet"
    failed = extract_file(images, out, cache=images.parent / "cache", say=said.append, quiet=True, workers=1, **options)
    return failed, said, pd.read_parquet(out)


def test_failures_are_rows_with_a_reason_and_the_rest_goes_on(cohort: Path) -> None:
    failed, said, table = run(cohort)
    assert failed == 4
    assert table["patient"].tolist() == ["A", "B", "moved", "empty", "gone", "text"]
    assert table["reason"].tolist() == ["", "", "geometry", "empty_mask", "unreadable", "unreadable"]
    assert "6 patients, 2 complete, 4 with a reason" in said[-1]
    features = table.filter(like="t1|tumour|original_glcm_")
    assert features.shape[1] == 24
    assert features.notna().all(axis=1).tolist() == [True, True, False, False, False, False]
    detail = table["detail"][2]
    assert detail.startswith("moved: mask and image grids differ")
    assert detail.count("30×27×16") == 2


def test_nothing_is_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [write(tmp_path, "A"), write(tmp_path, "B", 6, mask_value=255)]
    cohort = write_csv_table(tmp_path / "images.csv", rows, HEADER)
    _, _, first = run(cohort)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("osml.radiomics.jobs.extract", fail)
    _, said, again = run(cohort)
    assert "2 of 2 images from the cache" in said[-1]
    pd.testing.assert_frame_equal(first, again)


def test_changed_settings_or_image_are_computed_again(cohort: Path) -> None:
    run(cohort)
    settings = cohort.parent / "s.yaml"
    settings.write_text("bin_width: 10\n")
    _, said, _ = run(cohort, settings=settings)
    assert "0 of 6 images from the cache" in said[-1]
    write(cohort.parent, "A", 9)
    _, said, _ = run(cohort)
    assert "1 of 6 images from the cache" in said[-1]


def test_a_damaged_cache_file_is_found_and_recomputed(cohort: Path) -> None:
    _, _, first = run(cohort)
    files = sorted((cohort.parent / "cache").rglob("*.features"))
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-9])
    files[1].write_bytes(b"")
    _, said, again = run(cohort)
    assert "0 of 6 images from the cache" in said[-1]
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.full
def test_processes_give_the_same_table(cohort: Path) -> None:
    one = extract_all(read_images_table(cohort, Settings(), cohort.parent / "one"), workers=1).table
    two = extract_all(read_images_table(cohort, Settings(), cohort.parent / "two"), workers=2).table
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_the_dictionary_names_every_feature(cohort: Path) -> None:
    _, _, table = run(cohort)
    words = pd.read_csv(cohort.parent / "features.dictionary.csv")
    assert len(words) == 107
    assert set(words["column"]) <= set(table)
    assert set(words["crop"]) == {"shared"}
    row = words.set_index("column").loc["t1|tumour|original_firstorder_Kurtosis"]
    assert (row["ibsi_tag"], bool(row["ibsi_definition"])) == ("stat_kurt", False)


def test_several_images_of_a_patient_are_one_row(tmp_path: Path) -> None:
    t1, t2 = write(tmp_path, "A"), write(tmp_path, "other", 6, mask_value=0)
    rows = [t1, ["A", *t2[1:3], "t2"]]
    _, _, table = run(write_csv_table(tmp_path / "images.csv", rows, HEADER))
    assert len(table) == 1
    assert table["reason"].tolist() == ["empty_mask"]
    assert table["t1|tumour|voxels"].notna().all()


@pytest.mark.parametrize(
    "header, rows, message",
    [
        (("patient", "image"), [["A", "a"]], "missing: mask"),
        (("patient", "image", "mask", "extra"), [["A", "a", "b", "c"]], "unknown: extra"),
        (("patient", "image", "mask"), [], "no rows"),
        (("patient", "image", "mask"), [["A", "", "m"]], ":2: patient"),
        (("patient", "image", "mask"), [["A", "a", "m"], ["A", "b", "m"]], ":3: patient A has image 'image' twice"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, header: tuple[str, ...], rows: list[list[str]], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_images_table(write_csv_table(tmp_path / "t.csv", rows, header), Settings(), tmp_path)


def test_only_parquet_and_csv_are_written(cohort: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\.parquet or \.csv"):
        extract_file(cohort, cohort.parent / "x.xlsx", quiet=True)


def test_a_csv_table(cohort: Path) -> None:
    out = cohort.parent / "x.csv"
    extract_file(cohort, out, cache=cohort.parent / "cache", say=lambda _: None, quiet=True, workers=1)
    found, expected = pd.read_csv(out), run(cohort)[2]
    assert list(found) == list(expected)
    column = "t1|tumour|original_glcm_Id"
    assert np.array_equal(found[column], expected[column], equal_nan=True)


def test_cache_keys_keep_borders_and_order() -> None:
    assert content_key(["a", "b"]) != content_key(["b", "a"]) != content_key(["ab"])


def test_the_cache_returns_what_was_stored(tmp_path: Path) -> None:
    cache = Cache(tmp_path, ".bin")
    assert cache.load("00ab") is None
    cache.store("00ab", b"one")
    assert cache.load("00ab") == b"one"
    path = cache.store("00ab", b"one")
    path.write_bytes(b"two")
    assert cache.load("00ab") is None
    assert not path.exists()
