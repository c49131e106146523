"""Mistakes in a schema of networks: a change, the key it is found at, the problem and its hint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from helpers import network_schema

Data = dict[str, Any]
Change = Callable[[Data], Any]


def changed(change: Change) -> Data:
    data = copy.deepcopy(network_schema())
    change(data)
    return data


def put(*path: str | int, **keys: Any) -> Change:
    """Keys written into the block at a path."""

    def change(data: Data) -> None:
        block: Any = data
        for part in path:
            block = block[part]
        block.update(keys)

    return change


def no_inner(data: Data) -> None:
    data["validation"]["inner"] = "none"


def target(block: Data) -> Change:
    def change(data: Data) -> None:
        data["target"] = block
        data["predictors"] = {"flat": {"kind": "network", "inputs": ["tile", "age"]}}

    return change


BINARY = {"kind": "binary", "column": "outcome", "positive": "yes"}
MULTI = {"kind": "multiclass", "column": "tissue", "classes": ["bone", "cartilage", "fat"]}
NET, FLAT = ("predictors", "net"), ("predictors", "flat")


def both(*changes: Change) -> Change:
    def change(data: Data) -> None:
        for one in changes:
            one(data)

    return change


# (change, keys that lead to the line, text of the problem, its hint)
PROBLEMS: list[tuple[Change, tuple[str, ...], str, str]] = [
    (
        put(decision={"action": "a", "act_on": "viable", "thresholds": [0.1, 0.4], "why": "w"}),
        ("decision",),
        "decision: a decision curve needs a binary or survival target; this one is a hierarchy",
        "Remove this block.",
    ),
    (
        put("predictors", nomo={"kind": "nomogram", "inputs": ["age"]}),
        ("predictors", "nomo"),
        "predictors.nomo: a nomogram predicts a binary or survival target; this one is a hierarchy",
        "Use `kind: network`.",
    ),
    (
        put("predictors", rad={"kind": "radscore", "inputs": ["nuclei"]}),
        ("predictors", "rad"),
        "predictors.rad: a radscore predicts a binary or survival target; this one is a hierarchy",
        "Use `kind: network`.",
    ),
    (
        target({**MULTI, "classes": ["bone", "fat", "bone", "skin"]}),
        ("target", "classes"),
        "target.classes: class 'bone' stands twice",
        "",
    ),
    (
        target({**MULTI, "classes": ["bone", "fat"]}),
        ("target", "classes"),
        "target.classes: tuple should have at least 3 items after validation, not 2",
        "",
    ),
    (
        target({**MULTI, "classes": ["bone", "", "fat"]}),
        ("target", "classes"),
        "target.classes.1: a class has a name; an empty cell is a missing one",
        "",
    ),
    (
        put("target", partial={"tumor": "tumor"}),
        ("target", "partial", "tumor"),
        "target.partial.tumor: 'tumor' is a node of the tree; its cells are that node already",
        "",
    ),
    (
        put("target", partial={"mixed": "tumour"}),
        ("target", "partial", "mixed"),
        "target.partial.mixed: 'tumour' is not an inner node of the tree",
        "Did you mean 'tumor'? Allowed: tumor.",
    ),
    (
        put("target", partial={"mixed": "viable"}),
        ("target", "partial", "mixed"),
        "target.partial.mixed: 'viable' is not an inner node of the tree",
        "Allowed: tumor.",
    ),
    (
        put("target", tree=["a", {"b": ["c"]}], partial={}),
        ("target", "tree"),
        "target.tree: b needs a list of two or more children; got ['c']",
        "",
    ),
    (
        put("target", tree=["a", {"b": ["c", "a"]}], partial={}),
        ("target", "tree"),
        "target.tree: node 'a' appears twice in the tree",
        "",
    ),
    (
        put("target", tree=["a", {"b": ["c", "d"], "e": ["f", "g"]}], partial={}),
        ("target", "tree"),
        "target.tree: an inner node is {name: [children]} with one name",
        "",
    ),
    (
        put(*FLAT, inputs=["tile", "net"]),
        ("predictors", "flat", "inputs"),
        "predictors.flat.inputs.1: 'net' is a predictor: a network takes inputs",
        "Combine whole predictors by `kind: stack`.",
    ),
    (
        both(
            put("inputs", t2={"kind": "volume", "available": "visit"}),
            put(*FLAT, inputs=["tile", "t2"]),
        ),
        ("predictors", "flat", "inputs"),
        "predictors.flat.inputs.1: 't2' has no mask: a network sees the slices in which the lesion is largest",
        "Add `mask: {column: …}` to input 't2'.",
    ),
    (
        both(put("cohort", site="centre"), put("inputs", "nuclei", harmonise="combat")),
        ("predictors", "net", "inputs"),
        "predictors.net.inputs.1: 'nuclei' is harmonised over sites, which only Rad-scores do",
        "",
    ),
    (
        put(*FLAT, encoders={"slide_view": {}}),
        ("predictors", "flat", "encoders", "slide_view"),
        "predictors.flat.encoders.slide_view: 'slide_view' is not among this predictor's inputs",
        "Allowed: tile, age.",
    ),
    (
        put(*FLAT, encoders={"age": {}}),
        ("predictors", "flat", "encoders", "age"),
        "predictors.flat.encoders.age: `encoders` is for image and volume; 'age' is none",
        "",
    ),
    (
        put(*NET, encode={"agee": "standard"}),
        ("predictors", "net", "encode", "agee"),
        "predictors.net.encode.agee: 'agee' is not among this predictor's inputs",
        "Did you mean 'age'? Allowed: tile, nuclei, age, sex, alp.",
    ),
    (
        put(*NET, encode={"sex": "kit"}),
        ("predictors", "net", "encode", "sex"),
        "predictors.net.encode.sex: `encode` is for number and lab; 'sex' is none",
        "",
    ),
    (
        put(*NET, encode={"age": "kit"}),
        ("predictors", "net", "encode", "age"),
        "predictors.net.encode.age: 'kit' needs the kit range of 'age'",
        "It is for labs with `kit: {low: …, high: …}`.",
    ),
    (
        lambda d: d["inputs"]["alp"].pop("kit"),
        ("predictors", "net", "encode", "alp"),
        "predictors.net.encode.alp: 'kit' needs the kit range of 'alp'",
        "It is for labs with `kit: {low: …, high: …}`.",
    ),
    (
        put(*NET, encode={"age": {"divide": 0}}),
        ("predictors", "net", "encode", "age", "divide"),
        "predictors.net.encode.age.divide: input should be greater than 0",
        "",
    ),
    (
        put(*NET, "encoders", "tile", scale="native"),
        ("predictors", "net", "encoders", "tile", "scale"),
        "predictors.net.encoders.tile.scale: native is for frozen encoders",
        "Use `scale: resize`.",
    ),
    (
        put(*NET, "encoders", "tile", tune="full"),
        ("predictors", "net", "encoders", "tile", "rank"),
        "predictors.net.encoders.tile.rank: rank is a setting of `tune: lora`",
        "",
    ),
    (
        put(*NET, "encoders", "tile", stain=2),
        ("predictors", "net", "encoders", "tile", "stain"),
        "predictors.net.encoders.tile.stain: stained copies are for frozen encoders: a trained one sees new stains at "
        "every step",
        "Leave it out.",
    ),
    (
        put(*FLAT, inputs=["slide_view", "age"], encoders={"slide_view": {"stain": 2}}),
        ("predictors", "flat", "encoders", "slide_view", "stain"),
        "predictors.flat.encoders.slide_view.stain: 'slide_view' has no `orientation: free`: it is no H&E",
        "",
    ),
    (
        put(*NET, "encoders", "tile", size=0),
        ("predictors", "net", "encoders", "tile", "size"),
        "predictors.net.encoders.tile.size: input should be greater than or equal to 1",
        "",
    ),
    (
        put(*FLAT, head="cox"),
        ("predictors", "flat", "head"),
        "predictors.flat.head: head 'cox' does not fit a hierarchy target",
        "Use flat or tree, or leave it out.",
    ),
    (
        put(*NET, head="flat"),
        ("predictors", "net", "node_weights"),
        "predictors.net.node_weights: weights are learnt where a tree has several decisions",
        "",
    ),
    (
        put(*NET, "node_weights", kind="fixed"),
        ("predictors", "net", "node_weights", "eta"),
        "predictors.net.node_weights.eta: eta is a constant of `kind: uncertainty`",
        "",
    ),
    (
        put(*FLAT, width=64),
        ("predictors", "flat", "width"),
        "predictors.flat.width: width is a setting of gated and film",
        "",
    ),
    (
        put(*NET, head_dropout=0.2),
        ("predictors", "net", "head_dropout"),
        "predictors.net.head_dropout: head_dropout is a setting of concat",
        "",
    ),
    (
        put("predictors", table={"kind": "network", "inputs": ["age", "sex", "alp"], "fusion": "film"}),
        ("predictors", "table", "fusion"),
        "predictors.table.fusion: film needs two or more of: an image, radiomics, the table; this predictor has one",
        "",
    ),
    (
        put("predictors", tiles={"kind": "network", "inputs": ["tile"], "fusion": "gated"}),
        ("predictors", "tiles", "fusion"),
        "predictors.tiles.fusion: gated needs two or more of: an image, radiomics, the table; this predictor has one",
        "",
    ),
    (
        put(*FLAT, train={"encoder_rate": 1e-5}),
        ("predictors", "flat", "train", "encoder_rate"),
        "predictors.flat.train.encoder_rate: encoder_rate is for encoders that are tuned; all of this predictor's are "
        "frozen",
        "Remove it, or give an encoder `tune: lora` or full.",
    ),
    (
        put(
            *NET, inputs=["tile", "nuclei", "age", "sex", "alp", "ldh", "slide_view"],
        ),
        ("predictors", "net", "ablation"),
        "predictors.net.ablation: 7 inputs have 126 subsets, each trained in every fold",
        "It is offered for up to 6 inputs.",
    ),
    (
        put(*NET, calibrate="platt"),
        ("predictors", "net", "calibrate"),
        "predictors.net.calibrate: platt is for binary targets",
        "Use temperature.",
    ),
    (
        put(*NET, inputs=["tile", "nuclei", "age", "sex", "alp", "nuclei"]),
        ("predictors", "net", "inputs"),
        "predictors.net.inputs.5: 'nuclei' stands twice",
        "",
    ),
    (
        put("predictors", "both", inputs=["net", "tile"]),
        ("predictors", "both", "inputs"),
        "predictors.both.inputs.1: 'tile' is an input: a stack combines predictors",
        "",
    ),
    (
        put("predictors", "both", inputs=["net", "nett"]),
        ("predictors", "both", "inputs"),
        "predictors.both.inputs.1: there is no input or predictor 'nett'",
        "Did you mean 'net'?",
    ),
    (
        put("predictors", "both", inputs=["net", "both"]),
        ("predictors", "both", "inputs"),
        "predictors.both.inputs: predictors feed each other in a circle: both → both",
        "",
    ),
    (
        put("validation", optimism={"predictors": ["net"]}),
        ("validation", "optimism", "predictors"),
        "validation.optimism.predictors.0: 'net' is a network; the bootstrap is offered for nomograms",
        "Repeated nested cross-validation is its estimate.",
    ),
    (
        both(
            lambda d: [d["cohort"].pop(key) for key in ("row", "position")],
            put("inputs", "tile", several=True),
        ),
        ("inputs", "nuclei", "of"),
        "inputs.nuclei.of: 'tile' has several pictures of a patient: radiomics describe one",
        "Use an input without `several`.",
    ),
    (
        put("inputs", "slide_view", several=True),
        ("inputs", "slide_view", "several"),
        "inputs.slide_view.several: with `cohort.row` every row has its own picture; several are gathered for a "
        "patient",
        "Remove it, or `cohort.row`.",
    ),
    (
        lambda d: d["cohort"].pop("row"),
        ("cohort", "position"),
        "cohort.position: positions are those of tiles, one a row",
        "Name them in `cohort.row`.",
    ),
    (
        lambda d: d["inputs"]["nuclei"].pop("mask"),
        ("inputs", "nuclei", "channels"),
        "inputs.nuclei.channels: channels are those of an H&E picture",
        "Add `mask: nuclei`, tissue or full.",
    ),
    (
        put("inputs", "nuclei", classes=["firstorder", "shape"]),
        ("inputs", "nuclei", "classes"),
        "inputs.nuclei.classes: shape describes one drawn lesion; of nuclei, their sizes and roundness are measured",
        "Leave shape out.",
    ),
    (
        both(
            put("inputs", t2={"kind": "volume", "mask": {"column": "m"}, "available": "visit"}),
            put("inputs", "nuclei", of="t2"),
        ),
        ("inputs", "nuclei", "mask"),
        "inputs.nuclei.mask: full, tissue and nuclei are found in pictures; 't2' is none",
        "",
    ),
    *(
        (
            put("inputs", "nuclei", **{key: value}),
            ("inputs", "nuclei", key),
            f"inputs.nuclei.{key}: `{key}` is for a drawn lesion; this one has `mask: nuclei`",
            "",
        )
        for key, value in (
            ("normalise", {"method": "zscore"}), ("spacing", [1, 1]), ("regions", ["tumour"]),
            ("filters", ["original"]), ("crop", "shared"), ("leaving", "clip"), ("in_plane", True), ("ibsi", True),
            ("engine", "osml"), ("stability", {"perturb": 3}),
        )
    ),
]  # fmt: skip
