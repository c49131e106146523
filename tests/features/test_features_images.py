"""What networks read of images: plans, vectors or pictures, which unit has which, and files that cannot be used."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoder_files import tiny_encoder, weights_file
from helpers import network_schema
from numpy.testing import assert_allclose, assert_array_equal
from picture_kinds import BAD, GREY, SAME, blocks, plain

from osml.cohort.cohort import ImageTable
from osml.features import Unusable
from osml.features.images import (
    TEXTURE_LAYERS,
    TEXTURE_SIZE,
    TEXTURE_STAIN,
    ImagePlan,
    Images,
    compute_images,
    image_plan,
    image_plans,
)
from osml.nets.embeddings import EmbeddingSettings, embed_images
from osml.schema.model import Schema
from osml.schema.networks import EncoderBlock

Data = dict[str, Any]
TINY, STORED = 160, 182  # px of the encoder; 1.14 times that, even


def schema_with(encoders: Sequence[Data | None], orientation: str = "fixed") -> Schema:
    """One network for each encoder of `tile`; the second network reads `slide_view` too."""
    data = copy.deepcopy(network_schema())
    data["inputs"]["tile"]["orientation"] = orientation
    data["predictors"] = {
        f"net{k}": {
            "kind": "network",
            "inputs": ["tile", "slide_view", "age"] if k == 1 else ["tile", "age"],
            "encoders": {} if encoder is None else {"tile": encoder},
        }
        for k, encoder in enumerate(encoders)
    }
    return Schema.model_validate(data)


def tiny(folder: Path, **settings: Any) -> Data:
    return {"model": "test_efficientnet", "weights": str(weights_file(folder, "test_efficientnet")), **settings}


def computed(folder: Path, schema: Schema, paths: Sequence[Sequence[str]], **settings: Any) -> Images:
    plans = [plan for plan in image_plans(schema).values() if plan.input == "tile"]
    units = [f"U{i}" for i in range(len(paths))]
    return compute_images(schema, plans, units, {"tile": paths}, {}, folder, **settings)


def only(images: Images) -> ImageTable:
    assert len(images.tables) == 1
    return next(iter(images.tables.values()))


# Plans ----------------------------------------


def test_networks_with_the_same_encoder_share_one_table() -> None:
    frozen = {"model": "default", "tune": "frozen"}
    plans = image_plans(schema_with([None, frozen, {}]))
    assert [plan.input for plan in plans.values()] == ["tile", "slide_view"]
    assert {image_plan(schema_with([None, frozen]), f"net{k}", "tile").key for k in (0, 1)} == {next(iter(plans))}
    assert all(key.startswith(f"{plan.input}@") for key, plan in plans.items())


@pytest.mark.parametrize(
    "other",
    [{"model": "resnet18"}, {"weights": "hub"}, {"tune": "lora"}, {"tune": "full"}, {"size": 64}, {"scale": "native"}],
)
def test_networks_with_other_encoders_have_tables_of_their_own(other: Data) -> None:
    plans = image_plans(schema_with([{}, other]))
    assert [plan.input for plan in plans.values()] == ["tile", "tile", "slide_view"]
    first, second = (plan for plan in plans.values() if plan.input == "tile")
    assert second.encoder == EncoderBlock(**other)
    assert first.frozen
    assert second.frozen == ("tune" not in other)


def test_pictures_that_turn_are_another_table() -> None:
    fixed, free = (image_plan(schema_with([None], way), "net0", "tile") for way in ("fixed", "free"))
    assert (fixed.orientation, free.orientation) == ("fixed", "free")
    assert fixed.key != free.key
    assert (fixed.embedding().orientation, free.embedding().orientation) == ("fixed", "free")


def test_the_default_for_pictures_that_turn_is_set_for_tissue_and_each_choice_changes_its_own_part() -> None:
    def chosen(encoder: Data | None, orientation: str = "free") -> tuple[Any, ...]:
        found = image_plan(schema_with([encoder], orientation), "net0", "tile").encoder
        return found.layers, found.size, found.stain

    tissue = (TEXTURE_LAYERS, TEXTURE_SIZE, TEXTURE_STAIN)
    assert chosen(None) == chosen({}) == chosen({"model": "default", "tune": "frozen"}) == tissue
    assert chosen(None, "fixed") == (None, None, None)
    assert chosen({"size": 224}) == (TEXTURE_LAYERS, 224, TEXTURE_STAIN)
    assert chosen({"stain": 0}) == (TEXTURE_LAYERS, TEXTURE_SIZE, 0)
    for other in ({"layers": "final"}, {"layers": ["blocks.2"]}, {"model": "resnet18"}, {"tune": "lora"}):
        block = EncoderBlock(**other)
        assert chosen(other) == (block.layers, block.size, block.stain), other


@pytest.mark.parametrize("orientation", ["fixed", "free"])
def test_stained_copies_stand_behind_the_vector_of_the_picture_itself(tmp_path: Path, orientation: str) -> None:
    plain(tmp_path / "a.png"), plain(tmp_path / "b.png", 1)
    alone = schema_with([tiny(tmp_path, layers="final")])
    stained = schema_with([tiny(tmp_path, layers="final", stain=3)], orientation)
    vectors = only(computed(tmp_path, stained, [["a.png"], ["b.png"]])).values()
    assert vectors.shape[:2] == (2, 4)
    # The same kernels on batches of another make-up: equal up to rounding.
    assert_allclose(vectors[:, :1], only(computed(tmp_path, alone, [["a.png"], ["b.png"]])).values(), rtol=1e-5)
    assert all((vectors[:, k] != vectors[:, 0]).any() for k in (1, 2, 3))
    again = only(computed(tmp_path, stained, [["b.png"]], cache=tmp_path / "empty")).values()
    assert_array_equal(again[0], vectors[1])  # copies follow from the picture, not from its place in the study


def test_plans_are_those_of_the_networks_that_are_asked_for_and_of_what_feeds_them() -> None:
    data = copy.deepcopy(network_schema())
    data["predictors"]["view"] = {"kind": "network", "inputs": ["slide_view", "age"]}
    schema = Schema.model_validate(data)
    named = {name: sorted(p.input for p in image_plans(schema, [name]).values()) for name in schema.predictors}
    assert named == {"net": ["tile"], "flat": ["tile"], "both": ["tile", "tile"], "view": ["slide_view"]}
    assert image_plans(schema, []) == {}


# Tables ----------------------------------------


@pytest.mark.parametrize("orientation, views", [("fixed", 1), ("free", 8)])
def test_a_frozen_encoder_gives_the_vectors_of_each_picture(tmp_path: Path, orientation: str, views: int) -> None:
    names = [plain(tmp_path / f"{k}.png", k).name for k in range(3)]
    schema = schema_with([tiny(tmp_path)], orientation)
    found = computed(tmp_path, schema, [[names[0], names[1]], [], [names[2]], [names[0]]])
    table = only(found)
    encoder = tiny_encoder(tmp_path)
    direct = embed_images([tmp_path / n for n in names], encoder, EmbeddingSettings("resize", orientation))  # type: ignore[arg-type]
    assert direct.values.shape == (3, views, encoder.width)
    assert_array_equal(table.row, [0, 0, 2, 3])
    assert_array_equal(table.values(), direct.values[[0, 1, 2, 0]])
    # A unit without a path lacks the image, which is no fault of a file.
    assert found.unusable == ()
    assert found.hashes == dict(zip(names, direct.hashes, strict=True))


def test_native_scale_has_mean_and_maximum_of_crops(tmp_path: Path) -> None:
    plain(tmp_path / "a.png")
    table = only(computed(tmp_path, schema_with([tiny(tmp_path, scale="native")]), [["a.png"]]))
    encoder = tiny_encoder(tmp_path)
    assert table.shape() == (1, 1, 2 * encoder.width)
    mean, top = np.split(table.values()[0, 0], 2)
    assert (top >= mean).all()
    assert (top > mean).any()


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_an_encoder_that_is_trained_gets_pictures(tmp_path: Path, tune: str) -> None:
    plain(tmp_path / "a.png")
    table = only(computed(tmp_path, schema_with([tiny(tmp_path, tune=tune)]), [["a.png"], ["a.png"]]))
    pixels = table.values()
    assert (pixels.dtype, pixels.shape) == (np.uint8, (2, 3, STORED, STORED))
    assert_array_equal(pixels[0], pixels[1])
    # The colours of the blocks, a little blurred by the resizing.
    spots = (np.arange(20) * 10 + 5) * STORED // 200
    gap = np.abs(pixels[0][:, spots][:, :, spots].astype(int) - blocks()[5::10, 5::10].transpose(2, 0, 1))
    assert np.median(gap) < 12


def test_two_encoders_read_the_same_files_and_tell_of_a_bad_one_once(tmp_path: Path) -> None:
    plain(tmp_path / "a.png")
    schema = schema_with([tiny(tmp_path), tiny(tmp_path, tune="lora")])
    found = computed(tmp_path, schema, [["a.png"], ["gone.png"]])
    frozen, trained = found.tables.values()
    assert (frozen.values().dtype, trained.values().dtype) == (np.float32, np.uint8)
    assert_array_equal(frozen.row, trained.row)
    assert [(lost.row, lost.reason) for lost in found.unusable] == [(1, "unreadable")]


def test_nothing_is_computed_twice_and_changed_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from osml.nets import embeddings

    decoded: list[str] = []
    whole = embeddings.decode
    monkeypatch.setattr(embeddings, "decode", lambda path: decoded.append(path.name) or whole(path))
    schema, paths = schema_with([tiny(tmp_path)]), [["a.png"], ["b.png"]]
    plain(tmp_path / "a.png", 1), plain(tmp_path / "b.png", 2)
    first = only(computed(tmp_path, schema, paths))
    assert sorted(decoded) == ["a.png", "b.png"]
    decoded.clear()
    second = only(computed(tmp_path, schema, paths))
    assert decoded == []
    assert second.stored == first.stored
    plain(tmp_path / "b.png", 3)
    third = only(computed(tmp_path, schema, paths))
    assert decoded == ["b.png"]
    assert third.stored != first.stored
    assert_array_equal(third.values()[0], first.values()[0])
    assert (third.values()[1] != first.values()[1]).any()


def test_tables_lie_in_files_unless_they_are_to_stay_in_memory(tmp_path: Path) -> None:
    plain(tmp_path / "a.png")
    schema = schema_with([tiny(tmp_path)])
    kept = only(computed(tmp_path, schema, [["a.png"]]))
    assert isinstance(kept.stored, Path)
    assert kept.stored.parent == tmp_path / "cache" / "networks"
    encoders: dict[str, Any] = {}
    given = only(computed(tmp_path, schema, [["a.png"]], keep=False, encoders=encoders))
    assert isinstance(given.stored, np.ndarray)
    assert_array_equal(given.values(), kept.values())
    built = dict(encoders)
    assert len(built) == 1
    computed(tmp_path, schema, [["a.png"]], encoders=encoders)
    assert encoders == built
    # A file that was cut is written anew.
    kept.stored.write_bytes(kept.stored.read_bytes()[:-4])
    assert_array_equal(only(computed(tmp_path, schema, [["a.png"]])).values(), given.values())


def test_a_study_in_which_nobody_has_a_picture_has_an_empty_table(tmp_path: Path) -> None:
    table = only(computed(tmp_path, schema_with([tiny(tmp_path)]), [[], []]))
    assert (table.shape()[0], len(table.row)) == (0, 0)
    assert len(table.take(np.array([1, 0])).row) == 0


# Files that cannot be used, and odd ones that can ----------------------------------------


@pytest.mark.parametrize("tune", ["frozen", "lora"])
def test_a_bad_file_names_its_unit_and_stops_no_other(tmp_path: Path, tune: str) -> None:
    for name, (write, _, _) in BAD.items():
        write(tmp_path / name)
    for k in range(2):
        plain(tmp_path / f"good{k}.png", k)
    paths = [["good0.png"], *([name] for name in BAD), ["good1.png"]]
    found = computed(tmp_path, schema_with([tiny(tmp_path, tune=tune)]), paths)
    lost = {one.row: one for one in found.unusable}
    assert sorted(lost) == list(range(1, len(BAD) + 1))
    for row, (name, (_, reason, words)) in enumerate(BAD.items(), start=1):
        assert (lost[row].input, lost[row].reason) == ("tile", reason), name
        assert lost[row].detail.startswith(f"U{row}: "), name
        assert name in lost[row].detail
        assert words in lost[row].detail
    table = only(found)
    assert table.row.tolist() == [0, len(BAD) + 1]
    alone = only(computed(tmp_path, schema_with([tiny(tmp_path, tune=tune)]), [["good0.png"], ["good1.png"]]))
    assert_array_equal(table.values(), alone.values())
    assert sorted(found.hashes) == ["good0.png", "good1.png"]


def test_one_bad_picture_of_several_takes_its_unit_out(tmp_path: Path) -> None:
    plain(tmp_path / "a.png", 0), plain(tmp_path / "b.png", 1)
    found = computed(tmp_path, schema_with([tiny(tmp_path)]), [["a.png", "gone.png", "b.png"], ["b.png"]])
    assert found.unusable == (Unusable(0, "tile", "unreadable", f"U0: {tmp_path / 'gone.png'}: no such file"),)
    assert only(found).row.tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", [*SAME, *GREY])
def test_odd_files_that_show_a_picture_enter_as_that_picture(tmp_path: Path, name: str) -> None:
    from PIL import Image

    {**SAME, **GREY}[name](tmp_path / name)
    shown = blocks() if name in SAME else np.repeat(blocks()[..., :1], 3, axis=2)
    Image.fromarray(shown).save(tmp_path / "as_shown.png")
    found = computed(tmp_path, schema_with([tiny(tmp_path, tune="lora")]), [[name], ["as_shown.png"]])
    assert found.unusable == ()
    odd, plainly = only(found).values()
    assert np.abs(odd.astype(int) - plainly).max() <= 1


def test_a_picture_of_one_pixel_is_its_colour_everywhere(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (1, 1), (10, 200, 90)).save(tmp_path / "one.png")
    schema = schema_with([tiny(tmp_path, tune="lora"), tiny(tmp_path, scale="native")])
    found = computed(tmp_path, schema, [["one.png"]])
    pictures, crops = found.tables.values()
    assert np.unique(pictures.values()[0].reshape(3, -1), axis=1).tolist() == [[10], [200], [90]]
    # At native scale there is no crop of it.
    assert len(crops.row) == 0
    assert [(one.row, one.reason) for one in found.unusable] == [(0, "dimension")]
    assert "U0: one.png: 1×1 px; a crop at native scale has 160×160" in found.unusable[0].detail


def test_a_plan_is_named_after_its_input() -> None:
    plan = ImagePlan("tile", EncoderBlock(), "fixed")
    name, _, digest = plan.key.partition("@")
    assert (name, len(digest)) == ("tile", 12)
