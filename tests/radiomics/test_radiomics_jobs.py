"""Many images: one cache, failures as values, and what is finished is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from radiomics_data import blob

from osml.engine import Progress
from osml.errors import InvalidInputError, MissingExtraError
from osml.imaging.read import read_image, read_mask
from osml.imaging.volume import simple_itk, to_sitk
from osml.radiomics import Settings, extract
from osml.radiomics import jobs as module
from osml.radiomics.jobs import Failure, Job, extract_jobs
from osml.radiomics.perturb import perturb
from osml.radiomics.table import FeatureTable, from_bytes, table_of, to_bytes, wide

QUICK = Settings(classes=("firstorder",))


def files(folder: Path, name: str, seed: int = 5) -> tuple[Path, Path]:
    image, mask = blob(seed=seed)
    sitk = simple_itk()
    paths = folder / f"{name}.nii.gz", folder / f"{name}_mask.nii.gz"
    for volume, path in zip((image, mask), paths, strict=True):
        sitk.WriteImage(to_sitk(volume), str(path))
    return paths


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    image, mask = files(tmp_path, "A")
    other = files(tmp_path, "B", 6)
    return [
        Job("A", "A", image, mask),
        Job("A draw 1", "A", image, mask, draw=1, seed=9),
        Job("gone", "C", tmp_path / "none.nii.gz", mask),
        Job("again", "A", image, mask),
        Job("B", "B", *other, body=other[1]),
    ]


def test_every_job_has_its_table_or_its_reason(jobs: list[Job], tmp_path: Path) -> None:
    progress = Progress("radiomics", len(jobs), quiet=True)
    found = extract_jobs(jobs, QUICK, cache=tmp_path / "cache", workers=1, progress=progress)
    assert list(found) == [job.id for job in jobs]
    assert progress.done == len(jobs)
    image, mask = read_image(jobs[0].image), read_mask(jobs[0].mask)
    pd.testing.assert_frame_equal(found["A"], extract(image, mask, QUICK))
    pd.testing.assert_frame_equal(found["again"], found["A"])
    drawn = extract(*perturb(image, mask, QUICK, draw=1, seed=9), QUICK)
    pd.testing.assert_frame_equal(found["A draw 1"], drawn)
    gone = found["gone"]
    assert isinstance(gone, Failure)
    assert gone.reason == "unreadable"
    assert gone.message.startswith("C: ")
    assert "none.nii.gz: no such file" in gone.message


def test_equal_content_is_computed_once_and_never_again(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(module, "extract", lambda image, *a, **k: calls.append(image.name) or extract(image, *a, **k))
    first = extract_jobs(jobs, QUICK, cache=tmp_path / "cache", workers=1)
    assert len(calls) == 3
    again = extract_jobs(jobs[::-1], QUICK, cache=tmp_path / "cache", workers=1)
    assert len(calls) == 3
    for id_ in ("A", "A draw 1", "B"):
        pd.testing.assert_frame_equal(first[id_], again[id_], check_exact=True)


@pytest.mark.parametrize(
    "changed", [{"draw": 2}, {"draw": 1, "seed": 8}, {"draw": 1, "seed": 9, "body": True}]
)  # fmt: skip
def test_whatever_changes_the_values_changes_the_key(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]
) -> None:
    extract_jobs(jobs, QUICK, cache=tmp_path / "cache", workers=1)
    calls: list[int] = []
    monkeypatch.setattr(module, "extract", lambda *a, **k: calls.append(1) or extract(*a, **k))
    body = jobs[0].mask if changed.pop("body", False) else None
    job = Job("x", "A", jobs[0].image, jobs[0].mask, body=body, **changed)
    extract_jobs([job], QUICK, cache=tmp_path / "cache", workers=1)
    assert calls == [1]


def test_a_fault_of_the_program_is_loud_after_the_others(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: object, *rest: object, **options: object) -> pd.DataFrame:
        if "B" in Path(image.name).name:
            raise ZeroDivisionError("a fault")
        return extract(image, *rest, **options)

    monkeypatch.setattr(module, "extract", broken)
    with pytest.raises(ZeroDivisionError):
        extract_jobs(jobs[::-1], QUICK, cache=tmp_path / "cache", workers=1)
    monkeypatch.setattr(module, "extract", None)
    kept = extract_jobs(jobs[:4], QUICK, cache=tmp_path / "cache", workers=1)
    assert isinstance(kept["A"], pd.DataFrame)
    assert isinstance(kept["A draw 1"], pd.DataFrame)


def test_too_little_memory_is_a_reason(jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "extract", full)
    found = extract_jobs(jobs[:1], QUICK, cache=tmp_path / "cache", workers=1)["A"]
    assert isinstance(found, Failure)
    assert found.reason == "memory"


def test_two_jobs_of_one_id_are_refused(jobs: list[Job], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="two radiomics jobs have the id 'A'"):
        extract_jobs([jobs[0], jobs[0]], QUICK, cache=tmp_path)


def test_a_missing_package_stops_everything(jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "radiomics" else name)
    with pytest.raises(MissingExtraError, match="pip install pyradiomics-cuda"):
        extract_jobs(jobs, Settings(engine="pyradiomics"), cache=tmp_path)


def test_a_folder_is_known_by_its_files(jobs: list[Job], tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    one = module._content(folder)
    (folder / "b").write_bytes(b"2")
    two = module._content(folder)
    assert one != two
    (folder / "b").rename(folder / "c")
    assert module._content(folder) != two


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_is_finished_survives_an_interruption(tmp_path: Path, how: signal.Signals) -> None:
    cache = tmp_path / "cache"
    for k in range(12):
        files(tmp_path, f"P{k}", k)
    code = f"""
from pathlib import Path
from osml.radiomics import Settings
from osml.radiomics.jobs import Job, extract_jobs
folder = Path({str(tmp_path)!r})
jobs = [Job(str(k), str(k), folder / f"P{{k}}.nii.gz", folder / f"P{{k}}_mask.nii.gz") for k in range(12)]
settings = Settings(filters=("original", "wavelet"), regions=("tumour", "0-2mm"), leaving="clip")
if __name__ == "__main__":
    print(len(extract_jobs(jobs, settings, cache=folder / "cache", workers=2)))
"""
    script = tmp_path / "run.py"
    script.write_text(code)
    command = [sys.executable, str(script)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(kept := list(cache.rglob("*.features"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, how)
    process.wait(timeout=60)
    assert len(kept) >= 2
    assert list(cache.rglob("*.part")) == []
    # What was kept is whole, and the same command finishes the rest.
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    assert again.stdout == "12\n"
    for path in kept:
        assert from_bytes(path.read_bytes()).values.shape[0] == 2


@pytest.mark.full
def test_two_runs_at_once_share_the_work(tmp_path: Path) -> None:
    for k in range(4):
        files(tmp_path, f"P{k}", k)
    code = f"""
from pathlib import Path
from osml.radiomics import Settings, jobs
folder = Path({str(tmp_path)!r})
inner = jobs.extract
def counted(image, *rest, **options):
    with (folder / "calls").open("a") as out:
        out.write(Path(image.name).name + "\\n")
    return inner(image, *rest, **options)
jobs.extract = counted
todo = [jobs.Job(str(k), str(k), folder / f"P{{k}}.nii.gz", folder / f"P{{k}}_mask.nii.gz") for k in range(4)]
settings = Settings(filters=("original", "wavelet"), regions=("tumour", "0-2mm"), leaving="clip")
found = jobs.extract_jobs(todo, settings, cache=folder / "cache", workers=1)
print(found["3"].to_numpy()[:, 1:].astype(float).tobytes().hex())
"""
    script = tmp_path / "run.py"
    script.write_text(code)
    both = [subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in both]
    assert outputs[0] == outputs[1] != ""
    assert sorted((tmp_path / "calls").read_text().split()) == [f"P{k}.nii.gz" for k in range(4)]
    assert list(tmp_path.rglob("*.lock")) == []


def test_tables_survive_their_bytes() -> None:
    table = FeatureTable(("tumour", "0-2mm"), ("voxels", "ü"), np.array([[1.0, np.nan], [2.0, -0.0]]))
    back = from_bytes(to_bytes(table))
    assert (back.regions, back.columns) == (table.regions, table.columns)
    assert back.values.tobytes() == table.values.tobytes()
    frame = extract(*blob(), QUICK)
    pd.testing.assert_frame_equal(table_of(frame).frame(), frame)


def test_a_wide_table_of_unequal_images() -> None:
    a = FeatureTable(("tumour",), ("x", "y"), np.array([[1.0, 2.0]]))
    b = FeatureTable(("tumour",), ("y", "z"), np.array([[3.0, 4.0]]))
    found = wide(3, [(0, "t1", a), (2, "t1", b), (0, "t2", b)])
    assert list(found) == ["t1|tumour|x", "t1|tumour|y", "t1|tumour|z", "t2|tumour|y", "t2|tumour|z"]
    nan = np.nan
    expected = [[1, 2, nan, 3, 4], [nan] * 5, [nan, 3, 4, nan, nan]]
    assert np.array_equal(found.to_numpy(), expected, equal_nan=True)
