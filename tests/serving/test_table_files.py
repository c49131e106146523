"""A table with the images that were uploaded beside it: matched by base name, whatever the names and archives are."""

from __future__ import annotations

import csv
import io
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
from networked import serve_xray

from osml.cohort.table import Table, read_table
from osml.errors import ArchiveError, TableError
from osml.serving import Model, load, read_upload, record, table_with_files
from osml.serving.patient_sheet import sheet_pages
from osml.serving.table_files import base_name

COLUMNS = ("id", "age", "sex", "alp", "alp_low", "alp_high", "file")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("files")
    run = serve_xray(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSML_WEIGHTS", str(folder / "weights"))
        patch.setenv("OSML_DEVICE", "cpu")
        found = load(run, "fused")
        found.predict_images({"age": "50"}, {"xray": _any_picture(run)})  # the encoder is built once
    return found


def _any_picture(run: Path) -> bytes:
    return next((run.parents[2] / "pictures").glob("*.png")).read_bytes()


def study(model: Model) -> tuple[Path, Table]:
    folder = model.bundle.path.parents[3]
    return folder, read_table(folder / "table.csv")


def made(model: Model, rows: Sequence[int], folder: str = "C:\\scans\\") -> tuple[bytes, dict[str, bytes]]:
    """A table of these rows, whose cells are paths of another machine, and the files by their base names."""
    place, table = study(model)
    sink, files = io.StringIO(), {}
    writer = csv.writer(sink)
    writer.writerow(COLUMNS)
    for i in rows:
        cells = [table.column(name)[i] for name in COLUMNS]
        if cells[-1]:
            files[Path(cells[-1]).name] = (place / cells[-1]).read_bytes()
            cells[-1] = folder + Path(cells[-1]).name
        writer.writerow(cells)
    return sink.getvalue().encode("utf-8"), files


def zipped(files: dict[str, bytes], folder: str = "images/") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(zipfile.ZipInfo(folder + name), raw, zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def read(model: Model, raw: bytes, uploads: Sequence[tuple[str, bytes]]) -> Table:
    return table_with_files(read_upload(raw, model), uploads, model)


@pytest.fixture(scope="module")
def rows(model: Model) -> list[int]:
    """Three patients: of one picture, of two (two rows), and of none."""
    _, table = study(model)
    ids, files = table.column("id"), table.column("file")
    single = next(i for i, name in enumerate(ids) if ids.count(name) == 1 and files[i])
    double = next(i for i, name in enumerate(ids) if ids.count(name) == 2 and files[i])
    none = next(i for i, name in enumerate(files) if not name)
    return [single, double, double + 1, none]


def test_files_and_archives_give_what_paths_give(model: Model, rows: list[int]) -> None:
    place, table = study(model)
    raw, files = made(model, rows)
    expected = model.predict(
        Table("new", table.columns, tuple(table.rows[i] for i in rows), (2, 3, 4, 5), ""), root=place
    )
    assert [row.ok for row in expected] == [True] * 4
    steps: list[tuple[int, int]] = []
    loose = table_with_files(read_upload(raw, model), list(files.items()), model, say=lambda k, n: steps.append((k, n)))
    first, *rest = files.items()
    packed = read(model, raw, [("x.zip", zipped(dict(rest))), ("../../" + first[0], first[1])])
    for given in (loose, packed):
        found = model.predict(given)
        assert [row.line for row in found] == [2, 3, 4, 5]
        assert [row.p for row in found] == [pytest.approx(row.p, abs=1e-6) for row in expected]
        assert found[3].missing == ("xray",)
        assert found[1].p == found[2].p
    assert steps == [(1, 3), (2, 3), (3, 3)]
    # One row of it is a patient with all that a form would have kept.
    assert record(model, loose, 1)["risk"][0]["p"] == pytest.approx(expected[1].p[0], abs=1e-6)
    assert len(model.grad_cam(loose, 1)) == 2
    assert dict(model.images_given(loose, 1)) == {"Radiograph": "2 pictures"}
    text = "\n".join(t.text for page in sheet_pages(model, loose, 1) for t in page.page.texts())
    assert "2 pictures" in text
    assert "p1" not in text


@pytest.mark.parametrize("lost", ["file", "cell", "both", "double"])
def test_what_does_not_match_is_an_error_that_names_it(model: Model, rows: list[int], lost: str) -> None:
    raw, files = made(model, rows[:1])
    ((name, content),) = files.items()
    uploads = {
        "file": [],
        "cell": [(name, content), ("other<b>.png", content)],
        "both": [("P-other.png", content)],
        "double": [(name, content), ("a.zip", zipped(files))],
    }[lost]
    with pytest.raises(TableError) as error:
        read(model, raw, uploads)
    words = error.value.what
    assert (f"line 2, file: '{name}'" in words) is (lost != "cell")
    assert ("cells without a file" in words) is (lost in ("file", "both"))
    assert ("files that no cell names" in words) is (lost in ("cell", "both"))
    assert ("several files have the name" in words) is (lost == "double")
    assert "nothing was predicted" in error.value.why


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (zipped({"../../x.png": b"1"}, ""), "points outside"),
        (zipped({"x" * 4096 + ".png": b"1"}), "more than 120 bytes"),
        (zipped({"a.png": bytes(60 * 2**20)}), "times its packed size"),
        (zipped({"inner.zip": zipped({"a.png": b"1"})}), "ZIP archive inside"),
        (zipped({"a.png": b"1"}).replace(b"a.png", b"\0.png"), "not allowed"),
    ],
    ids=["upwards", "long", "bomb", "nested", "nul"],
)
def test_hostile_archives_are_refused(model: Model, rows: list[int], archive: bytes, words: str) -> None:
    raw, _ = made(model, rows[:1])
    with pytest.raises(ArchiveError, match=words):
        read(model, raw, [("images.zip", archive)])


def test_a_link_in_an_archive_is_refused(model: Model, rows: list[int]) -> None:
    raw, files = made(model, rows[:1])
    sink = io.BytesIO()
    entry = zipfile.ZipInfo(next(iter(files)))
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(entry, b"/etc/passwd")
    with pytest.raises(ArchiveError, match="link or a device"):
        read(model, raw, [("images.zip", sink.getvalue())])


@pytest.mark.parametrize("name", ["../../x.png", "/etc/passwd", "a\0b.png", "n" * 4096, "..", ""])
def test_hostile_names_are_only_compared(model: Model, rows: list[int], name: str, tmp_path: Path) -> None:
    raw, files = made(model, rows[:1])
    uploads = [*files.items(), (name, next(iter(files.values())))]
    with pytest.raises(TableError, match="files that no cell names"):
        read(model, raw, uploads)


def test_wrong_content_is_a_row_without_a_prediction(model: Model, rows: list[int]) -> None:
    raw, files = made(model, rows[:3])
    names = list(files)
    files[names[0]] = b"<script>alert(1)</script>"
    found = model.predict(read(model, raw, list(files.items())))
    assert found[0].status == "xray: the file is not PNG, JPEG, TIFF or DICOM"
    assert [row.ok for row in found] == [False, True, True]


def test_a_row_with_a_bad_cell_is_not_measured(model: Model, rows: list[int]) -> None:
    raw, files = made(model, rows[:1])
    head, line = raw.decode().splitlines()[:2]
    cells = line.split(",")
    cells[1] = "400"
    given = read(model, "\n".join([head, ",".join(cells)]).encode(), list(files.items()))
    (row,) = model.predict(given)
    assert "age" in row.status
    assert given.measured == {}  # type: ignore[attr-defined]


def test_a_table_without_the_column_of_images(model: Model) -> None:
    with pytest.raises(TableError, match="no column 'file'"):
        read(model, b"id,age,sex,alp,alp_low,alp_high\n1,50,male,100,45,125\n", [])


def test_base_names() -> None:
    assert base_name(" a/b\\c.png ") == "c.png"
    assert base_name("u\u0308.png") == base_name("ü.png")
    assert np.unique([base_name(name) for name in ("x", "./x", "/x", "C:\\x", "x/")]).tolist() == ["x"]


def test_archives_are_bounded_together(model: Model, rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    raw, files = made(model, rows[:3])
    archives = [(f"{k}.zip", zipped({name: content})) for k, (name, content) in enumerate(files.items())]
    assert len(archives) > 1
    sizes = [len(content) for content in files.values()]
    monkeypatch.setattr("osml.serving.table_files.UNPACKED_BYTES", sum(sizes))
    assert model.predict(read(model, raw, archives))[0].ok
    monkeypatch.setattr("osml.serving.table_files.UNPACKED_BYTES", sum(sizes) - 1)
    with pytest.raises(ArchiveError, match="would unpack to"):
        read(model, raw, archives)
