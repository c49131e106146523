"""A bundle is refused when anything about it is not as it was sealed, and holds nothing about any patient."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import FIVE, patients, serve

from osml.errors import OsmlError, RunError, VerificationError
from osml.runs.bundle import MANIFEST, open_bundle, seal
from osml.serving import find_bundles, load

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
MODEL = "predictors/clinical/model.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(
        tmp_path_factory.mktemp("bundle"),
        predictors={
            "clinical": {"kind": "nomogram", "inputs": FIVE, "terms": {"marker": "log"}},
            "second": {"kind": "nomogram", "inputs": ["clinical", "size"]},
        },
    )


@pytest.fixture
def bundle(run: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data), encoding="utf-8")


def reseal(folder: Path) -> None:
    """The manifest of a forger: every hash fits."""
    facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    seal(folder, {key: facts[key] for key in ("study", "seed", "schema_sha256")})


def test_an_untouched_bundle_opens_wherever_it_is_copied(run: Path, bundle: Path) -> None:
    ours, theirs = load(run), load(bundle)
    assert ours.bundle.model_hash == theirs.bundle.model_hash
    assert len(ours.bundle.model_hash) == 64
    cells = {"age": "51", "marker": "200", "size": "77", "sex": "male", "stage": "late"}
    assert ours.predict_one(cells) == theirs.predict_one(cells)


def test_every_file_is_named_in_the_manifest_with_its_hash(bundle: Path) -> None:
    named = set(json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))["files"])
    present = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert named == present - {MANIFEST}


def test_any_changed_byte_is_refused(bundle: Path) -> None:
    for file in sorted(p for p in bundle.rglob("*") if p.is_file() and p.name != MANIFEST):
        raw = file.read_bytes()
        middle = len(raw) // 2
        file.write_bytes(raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :])
        name = re.escape(file.relative_to(bundle).as_posix())
        with pytest.raises(VerificationError, match=f"{name} was changed after the bundle was made"):
            open_bundle(bundle)
        file.write_bytes(raw)
    assert open_bundle(bundle).manifest["files"]


def missing(folder: Path) -> None:
    (folder / MODEL).unlink()


def added(folder: Path) -> None:
    (folder / "predictors" / "extra.json").write_text("{}", encoding="utf-8")


def link(folder: Path) -> None:
    (folder / "facts.json").rename(folder.parent / "facts.json")
    (folder / "facts.json").symlink_to(folder.parent / "facts.json")


def linked_folder(folder: Path) -> None:
    (folder / "predictors").rename(folder.parent / "predictors")
    (folder / "predictors").symlink_to(folder.parent / "predictors")


def linked_manifest(folder: Path) -> None:
    (folder / MANIFEST).rename(folder.parent / MANIFEST)
    (folder / MANIFEST).symlink_to(folder.parent / MANIFEST)


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def dots(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m["files"].update({"../outside.json": "0" * 64}))


def absolute(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m["files"].update({"/etc/passwd": "0" * 64}))


def no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def torn(folder: Path) -> None:
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:100])


def other_kind(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m.update(format="other"))


def newer(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m.update(version=2))


def no_version(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m.update(version=True))


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (missing, VerificationError, f"the bundle lacks {MODEL}"),
        (added, VerificationError, "a file that its manifest does not name: predictors/extra.json"),
        (link, VerificationError, "the bundle holds a link: facts.json"),
        (linked_folder, VerificationError, "the bundle holds a link: predictors"),
        (linked_manifest, VerificationError, "the bundle holds a link: manifest.json"),
        (pipe, VerificationError, "the bundle holds pipe, which is not a plain file"),
        (dots, VerificationError, "names a file outside the bundle: '../outside.json'"),
        (absolute, VerificationError, "names a file outside the bundle: '/etc/passwd'"),
        (no_manifest, RunError, "is neither a bundle nor a finished run|is not a bundle: it has no manifest.json"),
        (torn, VerificationError, "is not JSON: the bundle is damaged"),
        (other_kind, RunError, "its manifest is of another kind"),
        (newer, RunError, "format version 2; this osml reads up to 1"),
        (no_version, RunError, "format version True"),
    ],
)
def test_a_spoilt_bundle_is_refused_in_its_own_words(
    bundle: Path, spoil: Callable[[Path], None], kind: type[OsmlError], words: str
) -> None:
    spoil(bundle)
    with pytest.raises(kind, match=words):
        load(bundle)


def renamed_input(data: dict[str, Any]) -> None:
    data["inputs"]["age_years"] = data["inputs"].pop("age")
    data["predictors"]["clinical"]["inputs"][0] = "age_years"


def swapped_levels(data: dict[str, Any]) -> None:
    data["inputs"]["sex"]["levels"].reverse()


def another_unit(data: dict[str, Any]) -> None:
    data["inputs"]["size"]["unit"] = "cm"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed_input, "'clinical' needs the input 'age', which the schema does not have"),
        (swapped_levels, r"'sex' has levels \['male', 'female'\] in the schema, \['female', 'male'\] in the model"),
        (another_unit, "'size' has unit 'cm' in the schema, 'mm' in the model"),
        (lambda d: d["inputs"].clear(), "contradicts itself|cannot be read"),
        (lambda d: d.pop("target"), "the bundle's schema cannot be read: target"),
    ],
)
def test_a_schema_that_means_something_else_than_the_model_is_refused(
    bundle: Path, change: Callable[[Any], None], words: str
) -> None:
    edit(bundle / "schema.json", change)
    reseal(bundle)
    with pytest.raises(VerificationError, match=words):
        load(bundle)


def shift_intercept(data: dict[str, Any]) -> None:
    data["model"]["intercept"] += 1e-6


def test_a_model_that_does_not_reproduce_its_golden_cases_is_refused(bundle: Path) -> None:
    edit(bundle / MODEL, shift_intercept)
    (bundle / "predictors/clinical/nomogram.json").unlink()
    reseal(bundle)
    with pytest.raises(VerificationError, match="does not reproduce its golden cases: probabilities differ by up to"):
        load(bundle)


def test_a_nomogram_of_another_model_is_refused(bundle: Path) -> None:
    edit(bundle / MODEL, shift_intercept)
    reseal(bundle)
    with pytest.raises(VerificationError, match="the nomogram draws other coefficients than the model has"):
        load(bundle)


def test_a_model_of_another_version_of_osml_is_refused_in_words(bundle: Path) -> None:
    edit(bundle / MODEL, lambda m: m.pop("imputer"))
    reseal(bundle)
    with pytest.raises(VerificationError, match="the model of 'clinical' cannot be read: KeyError 'imputer'"):
        load(bundle)


def test_a_file_that_changes_while_it_is_served_is_refused(bundle: Path) -> None:
    model = load(bundle)
    assert model.drawing("svg").startswith(b"<")
    (bundle / "predictors/clinical/nomogram.svg").write_text("<svg/>", encoding="utf-8")
    with pytest.raises(VerificationError, match=r"nomogram\.svg was changed"):
        model.drawing("svg")
    with pytest.raises(RunError, match=r"the bundle has no file '\.\./table\.csv'"):
        model.bundle.content("../table.csv")


def test_bundles_are_found_in_a_run_a_study_and_a_folder_of_runs(run: Path, bundle: Path, tmp_path: Path) -> None:
    assert find_bundles(run) == (run / "bundle",)
    assert find_bundles(bundle) == (bundle,)
    (found,) = find_bundles(run.parent.parent)
    assert found.resolve() == run / "bundle"
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds no finished run"):
        find_bundles(tmp_path / "empty")
    with pytest.raises(RunError, match="neither a bundle nor a finished run"):
        find_bundles(tmp_path / "absent")


def text_of(file: Path) -> str:
    """What a reader, human or program, finds in a file of a bundle."""
    if file.suffix != ".pdf":
        return file.read_text(encoding="utf-8")
    from pypdf import PdfReader

    reader = PdfReader(file)
    return "\n".join([*(page.extract_text() for page in reader.pages), str(reader.metadata)])


def rare_values() -> dict[float, str]:
    """Every number of the table that fewer than 5 patients have, as measured and in the model's unit."""
    seen: dict[float, int] = {}
    for row in patients():
        for column in ("age", "marker", "size", "months"):
            for factor in (1.0, 60.0) if column == "marker" else (1.0,):
                if row[column]:
                    value = float(row[column]) * factor
                    seen[value] = seen.get(value, 0) + 1
    return {value: f"{value!r}" for value, n in seen.items() if n < 5}


def leaks(bundle: Path, folder: Path) -> list[str]:
    """Files of a bundle in which a patient's id or number, or a path of this machine stands."""
    rare, ids = rare_values(), [row["id"] for row in patients()]
    found = []
    for file in sorted(p for p in bundle.rglob("*") if p.is_file()):
        text, name = text_of(file), file.relative_to(bundle).as_posix()
        found += [f"{name}: id {one}" for one in ids if one in text]
        found += [f"{name}: value {rare[x]}" for x in sorted({float(m) for m in NUMBER.findall(text)} & set(rare))]
        found += [
            f"{name}: path {path}" for path in (str(folder), str(Path.home()), "/tmp/", "table.csv.") if path in text
        ]
    return found


def test_no_patient_stands_in_a_bundle(run: Path) -> None:
    bundle = run / "bundle"
    assert {p.suffix for p in bundle.rglob("*") if p.is_file()} == {".json", ".pdf", ".svg", ".html"}
    assert leaks(bundle, run.parents[2]) == []


def test_the_search_finds_what_is_hidden(bundle: Path, run: Path) -> None:
    row = patients()[4]
    (bundle / "facts.json").write_text(json.dumps({"x": [float(row["age"])], "y": row["id"]}), encoding="utf-8")
    assert [line.split(": ")[1].split()[0] for line in leaks(bundle, run)] == ["id", "value"]


def test_no_patient_stands_in_a_bundle_with_splines(tmp_path: Path) -> None:
    run = serve(
        tmp_path, predictors={"clinical": {"kind": "nomogram", "inputs": ["age", "sex"], "terms": {"age": {"rcs": 4}}}}
    )
    assert leaks(run / "bundle", tmp_path) == []
