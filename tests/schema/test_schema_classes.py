"""Classes in a schema: trees of any depth, names as they are written, and the published designs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, hierarchy_target, minimal_schema, require, write_schema
from hypothesis import given
from hypothesis import strategies as st

from osml.errors import SchemaError
from osml.schema.load import load_schema
from osml.schema.networks import EncoderBlock
from osml.schema.targets import HierarchyTarget, MulticlassTarget, tree_of

SHARED = ROOT.parent / "shared" / "schemas"
DESIGNS = ("histology_hierarchy.yaml", "xray_lab_fusion.yaml")
HISTOLOGY = """
version: 1
name: histology-hierarchy
study: {sampling: enriched}
time_of_prediction: after_surgery
times: [after_surgery]
cohort: {table: tiles.csv, patient: patient, row: tile}
target: {kind: hierarchy, column: tissue, tree: [non_tumor, {tumor: [non_viable, viable]}], partial: {mixed: tumor}}
inputs:
  tile: {kind: image, column: image, orientation: free, mpp: 2.3, available: after_surgery}
  nuclei: {kind: radiomics, of: tile, mask: nuclei, channels: [haematoxylin], classes: [firstorder, glcm]}
predictors:
  flat: &net
    kind: network
    inputs: [tile]
    encoders: {tile: {model: default, tune: frozen}}
    head: flat
    seeds: 3
  hierarchical: {<<: *net, head: tree}
  hierarchical_rad:
    <<: *net
    inputs: [tile, nuclei]
    fusion: gated
    head: tree
validation: {split: {kind: leave_one_patient_out}, inner: none, seed: 2026}
"""


@pytest.mark.parametrize("name", DESIGNS)
def test_the_designs_of_the_repository_load(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA", raising=False)
    folder = load_schema(ROOT / "configs" / name).table_path.parent
    assert folder == ROOT / "examples" / ("tiles" if name.startswith("histology") else "xray")
    monkeypatch.setenv("DATA", "/elsewhere")
    assert load_schema(ROOT / "configs" / name).table_path.parent == Path("/elsewhere")


@pytest.mark.parametrize("name", DESIGNS)
def test_the_designs_that_were_asked_for_load(name: str) -> None:
    if not (SHARED / name).is_file():
        require("data", f"no schema at {SHARED / name}")
    schema = load_schema(SHARED / name).schema
    assert schema.networks()
    assert schema.images_read() == (("tile",) if name.startswith("histology") else ("xray",))


def test_merged_blocks_are_read_with_what_overrides_them(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(HISTOLOGY)
    schema = load_schema(tmp_path / "study.yaml").schema
    assert isinstance(schema.target, HierarchyTarget)
    tree = tree_of(schema.target)
    assert (tree.leaves, tree.inner) == (("non_tumor", "non_viable", "viable"), ("tumor",))
    nets = schema.networks()
    assert {name: (net.head, net.seeds, net.fusion) for name, net in nets.items()} == {
        "flat": ("flat", 3, "concat"), "hierarchical": ("tree", 3, "concat"), "hierarchical_rad": ("tree", 3, "gated"),
    }  # fmt: skip
    assert all(net.encoders == {"tile": EncoderBlock()} for net in nets.values())
    assert schema.images_read() == ("tile",)
    assert schema.ancestors("hierarchical_rad") == ("tile", "nuclei")
    assert schema.available("nuclei") == "after_surgery"


def test_a_merged_block_is_at_fault_where_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(HISTOLOGY.replace("head: tree}", "head: cox}").replace("    seeds: 3", "    seed: 3"))
    with pytest.raises(SchemaError) as caught:
        load_schema(file)
    lines = file.read_text().splitlines()
    seed = next(i for i, line in enumerate(lines, start=1) if line.strip() == "seed: 3")
    cox = next(i for i, line in enumerate(lines, start=1) if "head: cox" in line)
    message = str(caught.value)
    # Every network that merges the block has its unknown key, on the one line where that is written.
    for name in ("flat", "hierarchical", "hierarchical_rad"):
        assert f"study.yaml:{seed}: predictors.{name}.seed: unknown key 'seed'" in message
    assert f"study.yaml:{cox}: predictors.hierarchical.head: head 'cox' does not fit a hierarchy target" in message


@pytest.mark.parametrize(
    "written, read",
    [
        ("[01, 1.0, true]", ("01", "1.0", "true")),
        ("[no, yes, 0x1F]", ("no", "yes", "0x1F")),
        ("[1e3, 2024-01-31, 'a b']", ("1e3", "2024-01-31", "a b")),
    ],
)
def test_names_of_classes_keep_their_spelling(tmp_path: Path, written: str, read: tuple[str, ...]) -> None:
    data = minimal_schema()
    data["target"] = {"kind": "multiclass", "column": "tissue", "classes": ["bone", "cartilage", "fat"]}
    data["predictors"] = {"net": {"kind": "network", "inputs": ["age"]}}
    file = write_schema(tmp_path, data)
    text = file.read_text()
    start, end = text.index("  classes:"), text.index("inputs:")
    file.write_text(f"{text[:start]}  classes: {written}\n{text[end:]}")
    found = load_schema(file).schema.target
    assert isinstance(found, MulticlassTarget)
    assert (found.classes, tree_of(found).leaves) == (read, read)
    inner, outer = written.strip("[]").split(", ")[:2], written.strip("[]").split(", ")[2]
    tree = f"  kind: hierarchy\n  column: tissue\n  tree: [{{{outer}: [{', '.join(inner)}]}}, 007]\n"
    tree += f"  partial: {{08: {outer}}}\n"
    file.write_text(text[: text.index("target:")] + "target:\n" + tree + text[end:])
    found = load_schema(file).schema.target
    assert isinstance(found, HierarchyTarget)
    assert tree_of(found).leaves == (*read[:2], "007")
    assert tree_of(found).inner == (read[2],)
    assert found.partial == {"08": read[2]}


NAMES = st.integers(min_value=0, max_value=10**9).map(lambda k: f"n{k}")


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[Any], list[str], list[str]]:
    """A tree of any shape up to depth 6, its leaves and its inner nodes in reading order."""
    names = iter(draw(st.lists(NAMES, min_size=130, max_size=130, unique=True)))
    leaves: list[str] = []
    inner: list[str] = []

    def children(depth: int) -> list[Any]:
        out: list[Any] = []
        for _ in range(draw(st.integers(2, 3 if depth < 2 else 2))):
            name = next(names)
            if depth < 5 and draw(st.booleans()):
                inner.append(name)
                out.append({name: children(depth + 1)})
            else:
                leaves.append(name)
                out.append(name)
        return out

    return children(0), leaves, inner


@given(made=trees())
def test_trees_of_any_depth_have_the_leaves_and_inner_nodes_that_are_written(
    made: tuple[list[Any], list[str], list[str]],
) -> None:
    structure, leaves, inner = made
    partial = {f"half {name}": name for name in inner}
    found = HierarchyTarget.model_validate(hierarchy_target(tree=structure, partial=partial))
    tree = tree_of(found)
    assert (list(tree.leaves), list(tree.inner)) == (leaves, inner)
    # Stored with a run and read again, it is the same tree.
    again = HierarchyTarget.model_validate(found.model_dump(mode="json"))
    assert tree_of(again) == tree
    # Each parent stands before its children, and the children of a node are those of its list.
    assert all(parent < k for k, parent in enumerate(tree.parents))
    counted = [sum(p == tree.nodes.index(name) for p in tree.parents) for name in inner]
    assert all(n >= 2 for n in counted)
