"""YAML as it is written: lines, duplicates, aliases, tags, the spelling of levels, paths with variables."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, minimal_schema, write_schema

from osml.errors import SchemaError
from osml.schema.document import read_document
from osml.schema.load import load_schema

TEXT = """\
version: 1
name: clinic
study: {sampling: cohort}
cohort: {table: clinic.csv, patient: id}
time_of_prediction: visit
times: [visit, surgery]
target: {kind: binary, column: outcome, positive: yes}
inputs:
  age: {kind: number, unit: year, available: visit}
  sex: {kind: binary, levels: [male, female], available: visit}
predictors:
  clinical: {kind: nomogram, inputs: [age, sex]}
validation: {split: {kind: kfold, folds: 2}, seed: 1}
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _error(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(SchemaError) as caught:
        load_schema(_write(folder, text), overrides)
    return str(caught.value)


def test_yes_and_no_are_texts(tmp_path: Path) -> None:
    target = load_schema(_write(tmp_path, TEXT)).schema.target
    assert target.kind == "binary"
    assert target.positive == "yes"


@pytest.mark.parametrize(
    "written",
    ["no", "yes", "on", "off", "None", "1e-4", "01", "1.0", "true", "True", "0x1F", "1_000", "+1", "2021-05-31"],
)
def test_levels_keep_their_spelling(tmp_path: Path, written: str) -> None:
    loaded = load_schema(_write(tmp_path, TEXT.replace("[male, female]", f"[{written}, other]")))
    sex = loaded.schema.inputs["sex"]
    assert sex.kind == "binary"
    assert sex.levels == (written, "other")


@pytest.mark.parametrize("written", ["null", "~"])
def test_an_empty_level_is_refused(tmp_path: Path, written: str) -> None:
    message = _error(tmp_path, TEXT.replace("levels: [male, female]", f"levels: [{written}, other]"))
    assert "study.yaml:10: inputs.sex.levels" in message


def test_a_level_may_be_the_empty_text(tmp_path: Path) -> None:
    loaded = load_schema(_write(tmp_path, TEXT.replace("[male, female]", '["", female]')))
    sex = loaded.schema.inputs["sex"]
    assert sex.kind == "binary"
    assert sex.levels == ("", "female")


def test_a_level_twice_is_refused_by_its_text(tmp_path: Path) -> None:
    assert "inputs.sex.levels: level '1' stands twice" in _error(tmp_path, TEXT.replace("[male, female]", "['1', 1]"))
    load_schema(_write(tmp_path, TEXT.replace("[male, female]", "['1', 1.0]")))


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("seed: 1", "seed: 1.0", "validation.seed: must be a whole number, not 1.0"),
        ("seed: 1", "seed: true", "validation.seed: must be a whole number, not true"),
        ("seed: 1", "seed: '1'", "validation.seed: must be a whole number, not '1'"),
        ("seed: 1", "seed: -1", "validation.seed: input should be greater than or equal to 0"),
        ("folds: 2", "folds: 1", "validation.split.folds: input should be greater than or equal to 2"),
        ("unit: year", "limits: [0, .inf]", "inputs.age.limits.1: must be a finite number, not .inf"),
        ("unit: year", "limits: [.nan, 1]", "inputs.age.limits.0: must be a finite number, not .nan"),
        ("unit: year", "limits: [0, 1e999]", "inputs.age.limits.1: must be a finite number, not 1e999"),
        ("unit: year", "limits: [yes, 1]", "inputs.age.limits.0: must be a number, not 'yes'"),
        ("unit: year", "limits: [9, 1]", "inputs.age.limits: the lower limit 9 is not below the upper limit 1"),
        ("unit: year", "unit: 3", "inputs.age.unit: must be a text, not 3; quote it if it is meant as one"),
        ("name: clinic", "name: a/b", "name: 'a/b': only letters a to z"),
        ("version: 1", "version: 2", "version: 2 is not allowed here"),
        ("[visit, surgery]", "[visit, visit]", "times: the same time stands twice"),
        ("time_of_prediction: visit", "time_of_prediction: vist", "Did you mean 'visit'? Allowed: visit, surgery."),
        (
            "inputs: [age, sex]",
            "inputs: [age, sxe]",
            "predictors.clinical.inputs.1: there is no input or predictor 'sxe'",
        ),
        ("inputs: [age, sex]", "inputs: [age, age]", "predictors.clinical.inputs.1: 'age' stands twice"),
        ("  clinical:", "  age:", "predictors.age: 'age' is also an input"),
        ("  clinical:", "  ../up:", "predictors.../up: '../up' cannot name a folder"),
        ("inputs: [age, sex]", "inputs: [clinical]", "predictors feed each other in a circle: clinical → clinical"),
        ("  age: {", "  id: {", "inputs.id: column 'id' names the patient (`cohort.patient`); it cannot be an input"),
        ("unit: year", "column: outcome", "inputs.age.column: column 'outcome' is the outcome (`target.column`)"),
        ("patient: id", "patient: id, site: age", "column 'age' is the centre (`cohort.site`); it cannot be an input"),
        ("positive: yes", "positive: yes, negative: yes", "target.negative: 'yes' is the positive value as well"),
    ],
)
def test_values_of_the_wrong_kind(tmp_path: Path, key: str, value: str, said: str) -> None:
    assert TEXT.count(key) == 1
    text = TEXT.replace(key, value)
    message = _error(tmp_path, text)
    assert said in message
    line = 9 if "site" in value else next(i for i, row in enumerate(TEXT.splitlines(), start=1) if key in row)
    assert f"study.yaml:{line}: " in message


def test_duplicate_keys_are_all_reported_with_both_lines(tmp_path: Path) -> None:
    text = TEXT + "name: other\ncohort: {table: b.csv, patient: id, patient: id}\n"
    message = _error(tmp_path, text)
    assert message.startswith("2 problems in study.yaml")
    assert "study.yaml:2: name: key 'name' is written twice, on lines 2 and 14" in message
    assert "key 'cohort' is written twice, on lines 4 and 15" in message
    message = _error(tmp_path, TEXT.replace("kind: number,", "kind: number, unit: month,"))
    assert "study.yaml:9: inputs.age.unit: key 'unit' is written twice, on lines 9 and 9" in message


def test_aliases_and_merge_keys(tmp_path: Path) -> None:
    text = TEXT.replace("  age: {", "  age: &number {").replace("  sex:", "  bmi: {<<: *number, unit: kg/m²}\n  sex:")
    inputs = load_schema(_write(tmp_path, text)).schema.inputs
    assert inputs["bmi"].model_dump() == {**inputs["age"].model_dump(), "unit": "kg/m²"}


@pytest.mark.parametrize("block", ["{<<: *number, unitt: kg}", "{unitt: kg, <<: *number}"])
def test_a_typo_beside_a_merge_key_stands_on_its_own_line(tmp_path: Path, block: str) -> None:
    text = TEXT.replace("  age: {", "  age: &number {").replace("  sex:", f"  bmi: {block}\n  sex:")
    message = _error(tmp_path, text)
    assert "study.yaml:10: inputs.bmi.unitt: unknown key 'unitt'" in message
    assert "Did you mean 'unit'?" in message


def test_an_overriding_key_keeps_its_line_before_a_merge(tmp_path: Path) -> None:
    text = TEXT.replace("  age: {", "  age: &number {").replace("  sex:", "  bmi: {unit: 3, <<: *number}\n  sex:")
    assert "study.yaml:10: inputs.bmi.unit: must be a text, not 3" in _error(tmp_path, text)


def test_only_blocks_merge(tmp_path: Path) -> None:
    assert "`<<:` can only merge a block of keys" in _error(tmp_path, TEXT.replace("  age: {", "  age: {<<: 3, "))


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object:os.system {}",
        "!!python/name:os.system x",
        "!custom x",
        "!!set {a}",
        "!!binary aGk=",
        "!a:str x",
    ],
)
def test_tags_are_refused(tmp_path: Path, tag: str) -> None:
    message = _error(tmp_path, TEXT.replace("unit: year", f"unit: {tag}"))
    assert "study.yaml:9: inputs.age.unit: tag " in message
    assert "is not allowed in a schema" in message


@pytest.mark.parametrize("tagged", ["!!int abc", "!!float abc", "!!bool maybe"])
def test_a_core_tag_on_another_text_is_refused(tmp_path: Path, tagged: str) -> None:
    message = _error(tmp_path, TEXT.replace("seed: 1", f"seed: {tagged}"))
    assert "study.yaml:13: validation.seed: " in message
    assert "is not a value of the tag" in message


def test_an_alias_bomb_stops(tmp_path: Path) -> None:
    layers = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 9))
    assert "more than 100000 values after aliases are expanded" in _error(tmp_path, "l0: &l0 [x]\n" + layers)
    merges = "".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 9))
    assert "more than 100000 values after aliases are expanded" in _error(tmp_path, "m0: &m0 {a: 1}\n" + merges)


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n"])
def test_an_alias_to_itself_is_refused(tmp_path: Path, text: str) -> None:
    assert "study.yaml:1: an alias (*) points to a block that contains it" in _error(tmp_path, text)


@pytest.mark.parametrize("depth", [60, 800])
def test_deep_nesting_is_refused(tmp_path: Path, depth: int) -> None:
    assert "nested too deeply" in _error(tmp_path, "a: " + "[" * depth + "]" * depth + "\n")


def test_yaml_1_1_is_refused(tmp_path: Path) -> None:
    assert "only YAML 1.2 is read" in _error(tmp_path, "# a study\n%YAML 1.1\n---\n" + TEXT)
    load_schema(_write(tmp_path, "%YAML 1.2\n---\n" + TEXT))


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "study.yaml is empty"),
        ("# only a comment\n", "study.yaml is empty"),
        ("- a\n- b\n", "the top level must be `key: value` pairs"),
        ("just text\n", "the top level must be `key: value` pairs"),
        ("a: [1, 2\n", "study.yaml:2: not valid YAML"),
        ("a: 1\n\tb: 2\n", "study.yaml:2: not valid YAML"),
        ("a: ?x: y: z\n", "study.yaml:1: not valid YAML"),
        ("a: *nothing\n", "study.yaml:1: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "study.yaml:2: not valid YAML"),
        ("a: \x07\n", "not valid YAML"),
        ("? [a, b]\n: 1\n", "line 1: a key must be a plain name"),
    ],
)
def test_what_is_not_a_schema(tmp_path: Path, text: str, said: str) -> None:
    assert said in _error(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"no schema at .*none.yaml\n  `osml init table.csv` writes one"):
        load_schema(tmp_path / "none.yaml")
    with pytest.raises(SchemaError, match="cannot be read"):
        load_schema(tmp_path)
    (tmp_path / "study.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(SchemaError, match=r"not UTF-8 at byte 9\n  Save the file as UTF-8"):
        load_schema(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert load_schema(tmp_path / "study.yaml").schema.name == "clinic"


def test_a_comma_in_a_flow_mapping_is_explained(tmp_path: Path) -> None:
    text = TEXT + "checks:\n  accept: {OSML041: development study, reported as exploratory}\n"
    message = _error(tmp_path, text)
    assert "study.yaml:15: checks.accept.reported as exploratory: must be a text, not empty; " in message
    assert "a comma inside {…} starts a new key: quote texts that hold one" in message
    quoted = text.replace("development study, reported as exploratory", '"development study, reported as exploratory"')
    accepted = load_schema(_write(tmp_path, quoted)).schema.checks.accept
    assert accepted == {"OSML041": "development study, reported as exploratory"}


def test_optimism_is_not_offered_for_a_predictor_that_is_fed(tmp_path: Path) -> None:
    second = (
        "  second: {kind: nomogram, inputs: [clinical, age]}\nvalidation: {optimism: {predictors: [clinical, second]}, "
    )
    message = _error(tmp_path, TEXT.replace("validation: {", second))
    assert message.startswith("1 problem in study.yaml")
    assert "study.yaml:14: validation.optimism.predictors.1: 'second' is fed by another predictor" in message
    message = _error(
        tmp_path, TEXT.replace("validation: {", second.replace("second]", "secnd]")) + "report: {compare: [x]}\n"
    )
    assert "validation.optimism.predictors.1: there is no predictor 'secnd'\n      Did you mean 'second'?" in message
    assert "report.compare.0: there is no predictor 'x'" in message


def test_an_unknown_code_is_refused(tmp_path: Path) -> None:
    message = _error(tmp_path, TEXT + "checks: {accept: {OSML41: small}}\n")
    assert "study.yaml:14: checks.accept.OSML41: there is no check 'OSML41'" in message
    assert "Did you mean 'OSML041'?" in message


def test_a_variable_without_value_or_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSML_TEST_FOLDER", raising=False)
    text = TEXT.replace("table: clinic.csv", "table: '${OSML_TEST_FOLDER}/clinic.csv'")
    message = _error(tmp_path, text)
    assert "study.yaml:4: cohort.table: environment variable OSML_TEST_FOLDER is not set" in message
    assert "${OSML_TEST_FOLDER:-default}" in message
    withdefault = _write(tmp_path, text.replace("FOLDER}", "FOLDER:-here}"))
    assert load_schema(withdefault).table_path == tmp_path / "here" / "clinic.csv"
    monkeypatch.setenv("OSML_TEST_FOLDER", str(tmp_path / "elsewhere"))
    assert load_schema(withdefault).table_path == tmp_path / "elsewhere" / "clinic.csv"


def test_variables_are_read_in_paths_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSML_TEST_FOLDER", "x")
    loaded = load_schema(_write(tmp_path, TEXT.replace("unit: year", "unit: '${OSML_TEST_FOLDER}'")))
    assert loaded.schema.inputs["age"].model_dump()["unit"] == "${OSML_TEST_FOLDER}"


def test_open_questions_are_listed_once_each(tmp_path: Path) -> None:
    text = TEXT.replace("sampling: cohort", 'sampling: "?"').replace("available: visit", 'available: "?"')
    text = text.replace("[visit, surgery]", '["?"]').replace("time_of_prediction: visit", 'time_of_prediction: "?"')
    message = _error(tmp_path, text.replace("positive: yes", 'positive: "?"'))
    assert message.startswith("6 problems in study.yaml")
    assert message.count("still to be answered ('?')") == 6
    assert "not allowed here" not in message
    assert "study.yaml:3: study.sampling: still to be answered" in message


def test_a_question_mark_may_be_a_cell(tmp_path: Path) -> None:
    text = TEXT.replace("patient: id}", 'patient: id, missing: ["", "?"]}').replace("[male, female]", '["+", "?"]')
    loaded = load_schema(_write(tmp_path, text))
    assert loaded.schema.cohort.missing == ("", "?")
    assert loaded.schema.inputs["sex"].model_dump()["levels"] == ("+", "?")


def test_lines_of_keys_and_values() -> None:
    document = read_document("a:\n  b: 1\n  c:\n    - x\n    - y: 2\n", "s.yaml")
    assert document.data == {"a": {"b": 1, "c": ["x", {"y": 2}]}}
    assert document.where(("a", "c", 1, "y")) == "s.yaml:5"
    assert document.where(("a", "nothing", "below")) == "s.yaml:1"


def test_the_digest_ignores_where_the_table_lies(tmp_path: Path) -> None:
    one = load_schema(_write(tmp_path, TEXT))
    two = load_schema(_write(tmp_path, TEXT.replace("clinic.csv", "../x/clinic.csv") + "# a comment\n"))
    three = load_schema(_write(tmp_path, TEXT.replace("seed: 1", "seed: 2")))
    assert one.digest() == two.digest() != three.digest()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


@pytest.mark.parametrize("wrong", [None, 3, True, "word", [], {}, [1, [2]], {"kind": "x"}, [{"a": 1}]], ids=repr)
def test_no_wrong_type_anywhere_is_more_than_a_schema_error(tmp_path: Path, wrong: Any) -> None:
    data = minimal_schema()
    data["decision"] = {"action": "a", "act_on": "yes", "thresholds": [0.1, 0.4], "why": "w"}
    data["inputs"]["alp"] = {"kind": "lab", "unit": "U/L", "kit": {"low": 1, "high": 2}, "available": "visit"}
    refused = 0
    paths = list(_paths(data))
    for path in paths:
        changed = copy.deepcopy(data)
        here: Any = changed
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = wrong
        try:
            load_schema(write_schema(tmp_path, changed))
        except SchemaError:
            refused += 1
    assert refused >= 0.6 * len(paths)


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_studies_load(config: Path) -> None:
    loaded = load_schema(config)
    assert loaded.schema.version == 1
    assert loaded.where("study", "sampling").startswith(f"{config.name}:")
