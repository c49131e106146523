"""Targets with classes, networks and stacks: what a schema must say about them, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import hierarchy_target, survival_target, write_schema
from network_mistakes import BINARY, FLAT, MULTI, NET, PROBLEMS, Change, Data, both, changed, no_inner, put, target

from osml.errors import SchemaError
from osml.features import check_settings
from osml.schema.load import LoadedSchema, load_schema


def refused(folder: Path, change: Change) -> str:
    with pytest.raises(SchemaError) as caught:
        load_schema(write_schema(folder, changed(change)))
    return str(caught.value)


def line_of(file: Path, *keys: str) -> int:
    """Line of a key in a block-style file, below its parents."""
    wanted, depth = list(keys), 0
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        text = line.strip().removeprefix("- ")
        if text.startswith((f"{wanted[0]}:", f"'{wanted[0]}':")) or text == wanted[0]:
            depth = number
            wanted = wanted[1:]
            if not wanted:
                return depth
    raise AssertionError(f"{keys} are not in {file}")


@pytest.mark.parametrize("change, keys, said, hint", PROBLEMS, ids=[said.split(":")[0] for _, _, said, _ in PROBLEMS])
def test_what_cannot_be_meant_is_refused_where_it_stands(
    tmp_path: Path, change: Change, keys: tuple[str, ...], said: str, hint: str
) -> None:
    message = refused(tmp_path, change)
    # Without `mask` radiomics of a picture lack a drawn one as well.
    assert message.startswith(f"{2 if 'channels' in said else 1} problem"), message
    place = line_of(tmp_path / "study.yaml", *keys)
    found = [line.strip() for line in message.splitlines() if said in line]
    assert len(found) == 1, message
    file, line, _ = found[0].split(":", 2)
    # A list stands on the line below its key.
    assert (file, int(line) - place) in [("study.yaml", k) for k in range(7)], found[0]
    if hint:
        assert hint in message.split(said, 1)[1].splitlines()[1]


@pytest.mark.parametrize(
    "change, said",
    [
        (
            put(*NET, "train", patience=3),
            "predictors.net.train.patience: early stopping needs patients held inside the training fold, but "
            "`validation.inner` is none\n      Remove it, or give `inner: {folds: 5}`.",
        ),
        (
            put(*NET),
            "predictors.net.calibrate: calibrate learns from inner out-of-fold scores, but `validation.inner` is none"
            "\n      Give `inner: {folds: 5}`.",
        ),
        (put(*NET), "predictors.net.abstain: abstain learns from inner out-of-fold scores"),
        (
            put("predictors", "both", method="logistic"),
            "predictors.both.method: weights are learnt on inner out-of-fold scores, but `validation.inner` is none"
            "\n      Use `method: mean`.",
        ),
    ],
)
def test_what_learns_on_inner_patients_needs_them(tmp_path: Path, change: Change, said: str) -> None:
    assert said in refused(tmp_path, both(change, no_inner))
    assert load_schema(write_schema(tmp_path, changed(change))).schema.name == "clinic"


def test_without_inner_folds_a_network_has_a_fixed_recipe(tmp_path: Path) -> None:
    def change(data: Data) -> None:
        no_inner(data)
        net = data["predictors"]["net"]
        del net["train"]["patience"], net["abstain"]
        net["calibrate"] = "none"

    assert load_schema(write_schema(tmp_path, changed(change))).schema.validation.inner == "none"


@pytest.mark.parametrize(
    "block, keys, said",
    [
        (BINARY, {"head": "tree"}, "head 'tree' does not fit a binary target\n      Use flat, or leave it out."),
        (MULTI, {"head": "tree"}, "head 'tree' does not fit a multiclass target\n      Use flat, or leave it out."),
        (
            survival_target(),
            {"head": "flat"},
            "head 'flat' does not fit a survival target\n      Use cox or discrete_time, or leave it out.",
        ),
        (MULTI, {"node_weights": {"kind": "uncertainty"}}, "weights are learnt where a tree has several decisions"),
        (BINARY, {"calibrate": "temperature"}, "temperature is for classes; the target is binary"),
        (survival_target(), {"calibrate": "platt"}, "platt is for binary targets"),
        (survival_target(), {"abstain": 0.1}, "prediction sets are of classes"),
    ],
)
def test_settings_fit_the_target(tmp_path: Path, block: Data, keys: Data, said: str) -> None:
    message = refused(tmp_path, both(target(block), put(*FLAT, **keys)))
    assert message.startswith("1 problem in study.yaml"), message
    assert said in message


@pytest.mark.parametrize(
    "block, keys",
    [
        (BINARY, {"head": "flat", "calibrate": "platt", "abstain": 0.2}),
        (MULTI, {"head": "flat", "calibrate": "temperature"}),
        (survival_target(), {"head": "cox"}),
        (survival_target(), {"head": "discrete_time"}),
        (hierarchy_target(), {"head": "tree", "node_weights": {"kind": "uncertainty"}}),
        (hierarchy_target(), {"head": "flat"}),
        (BINARY, {"fusion": "film", "width": 32}),
        (BINARY, {"encoders": {"tile": {"scale": "native"}}, "train": {"epochs": 3}}),
    ],
)
def test_their_neighbours_load(tmp_path: Path, block: Data, keys: Data) -> None:
    data = changed(both(target(block), put(*FLAT, **keys)))
    loaded = load_schema(write_schema(tmp_path, data)).schema.model_dump(mode="json", exclude_unset=True)
    written = data["predictors"]["flat"]
    assert {key: loaded["predictors"]["flat"][key] for key in written} == written


def test_a_mean_with_a_radscore_is_refused_and_learnt_weights_are_not(tmp_path: Path) -> None:
    def change(method: str) -> Change:
        def edit(data: Data) -> None:
            target(BINARY)(data)
            data["predictors"] |= {
                "rad": {"kind": "radscore", "inputs": ["nuclei"]},
                "both": {"kind": "stack", "inputs": ["flat", "rad"], "method": method},
            }

        return edit

    message = refused(tmp_path, change("mean"))
    said = "'rad' is a Rad-score, which has no constant: its mean with other scores means nothing"
    assert f"predictors.both.inputs.1: {said}\n      Use `method: logistic`." in message
    schema = load_schema(write_schema(tmp_path, changed(change("logistic")))).schema
    assert schema.lineage(["both"]) == ("both", "flat", "rad")
    assert schema.ancestors("both") == ("tile", "age", "nuclei")


def test_a_radscore_of_tiles_has_one_region_named_after_its_mask(tmp_path: Path) -> None:
    def loaded(region: str) -> LoadedSchema:
        def edit(data: Data) -> None:
            target(BINARY)(data)
            data["predictors"]["rad"] = {"kind": "radscore", "inputs": ["nuclei"], "region": region}

        return load_schema(write_schema(tmp_path, changed(edit)))

    for region in ("best", "nuclei"):
        check_settings(loaded(region))
    with pytest.raises(SchemaError, match=r"study\.yaml:\d+: 'nuclei' has no region 'tumour'") as caught:
        check_settings(loaded("tumour"))
    assert "Regions: best, nuclei." in str(caught.value)
