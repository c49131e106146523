"""Pictures become uint8 RGB as documented or are refused; sizes, crops, the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from encoder_files import picture_files
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from osml.errors import InvalidInputError
from osml.imaging.errors import DimensionError, UnreadableError
from osml.nets import images
from osml.nets.images import crops, decode, fit, stack_images, stored_size

RGB = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def saved(folder: Path, picture: Image.Image, name: str = "picture.png", **settings: object) -> Path:
    path = folder / name
    picture.save(path, **settings)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("name", ["picture.png", "picture.tif", "PICTURE.PNG"])
def test_colour_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    assert np.array_equal(decode(saved(tmp_path, Image.fromarray(RGB), name)), RGB)


def test_grey_is_repeated(tmp_path: Path) -> None:
    found = decode(saved(tmp_path, Image.fromarray(RGB[..., 0])))
    assert np.array_equal(found, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize("name", ["picture.png", "picture.tif"])
def test_sixteen_bits_are_rounded(tmp_path: Path, name: str) -> None:
    wide = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    found = decode(saved(tmp_path, Image.fromarray(wide), name))
    assert found[0, :, 1].tolist() == [0, 0, 1, 1, 128, 255]


def test_a_camera_that_was_held_sideways(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to view
    found = decode(saved(tmp_path, Image.fromarray(RGB), exif=exif))
    assert np.array_equal(found, np.rot90(RGB, -1))


def test_print_colours_become_rgb(tmp_path: Path) -> None:
    ink = np.zeros((8, 8, 4), dtype=np.uint8)
    ink[..., 0] = 255  # cyan
    found = decode(saved(tmp_path, Image.fromarray(ink, mode="CMYK"), "picture.tif"))
    assert found[4, 4].tolist() == [0, 255, 255]


def test_palettes_become_rgb(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decode(saved(tmp_path, palette)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


@pytest.mark.parametrize("alpha, refused", [(255, False), (254, True), (0, True)])
def test_transparency(tmp_path: Path, alpha: int, refused: bool) -> None:
    picture = Image.fromarray(RGB).convert("RGBA")
    picture.putpixel((1, 2), (*picture.getpixel((1, 2))[:3], alpha))  # type: ignore[index]
    path = saved(tmp_path, picture)
    if refused:
        with pytest.raises(DimensionError, match="1 of 24 pixels are transparent"):
            decode(path)
    else:
        assert np.array_equal(decode(path), RGB)


def test_one_pixel(tmp_path: Path) -> None:
    one = decode(saved(tmp_path, Image.fromarray(RGB[:1, :1])))
    assert np.array_equal(one, RGB[:1, :1])
    assert np.array_equal(fit(one, 4), np.broadcast_to(RGB[:1, :1], (4, 4, 3)))


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("1", (20_000, 20_000)))
    with pytest.raises(DimensionError, match=r"(?s)megapixels; at most 80.*not decoded"):
        decode(path)


def test_limits_are_pixels_not_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 23)
    with pytest.raises(DimensionError, match="4×6"):
        decode(saved(tmp_path, Image.fromarray(RGB)))


def test_pages_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(RGB)
    with pytest.raises(DimensionError, match="2 pages"):
        decode(saved(tmp_path, page, "pages.tif", save_all=True, append_images=[page]))


@pytest.mark.parametrize("values", [np.ones((3, 3), dtype=np.int32), np.ones((3, 3), dtype=np.float32)])
def test_values_without_a_white_are_refused(tmp_path: Path, values: NDArray[np.generic]) -> None:
    with pytest.raises(DimensionError, match="Which value is white"):
        decode(saved(tmp_path, Image.fromarray(values), "picture.tif"))


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "picture.tif"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise), name).read_bytes()
    for content in (b"", b"no picture", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableError, match=f"{name}: cannot be read"):
            decode(tmp_path / name)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"none\.png: no such file"):
        decode(tmp_path / "none.png")


def test_fit_keeps_what_fits_and_knows_its_filters() -> None:
    assert fit(RGB[:4], 4) is not None
    assert np.array_equal(fit(RGB[:4], 4), RGB[:4])
    assert fit(RGB, 3).shape == (3, 3, 3)
    with pytest.raises(InvalidInputError, match="interpolation 'cubic'"):
        fit(RGB, 3, "cubic")


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    assert np.all(np.abs(fit(stripes, 8)[:, 1:-1].astype(int) - 100) <= 2)


@given(st.integers(8, 60), st.integers(8, 60))
def test_crops_cover_every_pixel_and_turn_with_the_picture(height: int, width: int) -> None:
    pixels = np.arange(height * width).reshape(height, width, 1)
    found = crops(pixels, 8)  # type: ignore[arg-type]
    assert len(found) == -(-height // 8) * -(-width // 8)
    assert np.array_equal(np.unique(found), pixels.ravel())
    if not any(side % 2 and -(-side // 8) % 2 for side in (height, width)):  # else the middle crop has no exact place
        turned = {crop.tobytes() for crop in crops(np.rot90(pixels), 8)}  # type: ignore[arg-type]
        assert turned == {np.rot90(crop).tobytes() for crop in found}


def test_a_tile_of_twice_the_size_gives_quadrants() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = [pixels[:8, :8], pixels[:8, 8:], pixels[8:, :8], pixels[8:, 8:]]
    assert np.array_equal(crops(pixels, 8), np.stack(expected))


def test_a_picture_smaller_than_a_crop_is_refused() -> None:
    with pytest.raises(DimensionError, match=r"tile: 4×6 px; a crop.*8×8"):
        crops(RGB, 8, "tile")


@pytest.mark.parametrize("workers", [1, 3])
def test_the_stack_is_in_order_and_counts_what_failed(tmp_path: Path, workers: int) -> None:
    paths = picture_files(tmp_path, 7)
    paths[2].write_bytes(b"broken")
    paths.insert(4, tmp_path / "none.png")
    stack = stack_images(paths, 32, cache=tmp_path / "cache", workers=workers)
    assert [(f.index, f.reason) for f in stack.failures] == [(2, "unreadable"), (4, "unreadable")]
    assert [h is None for h in stack.hashes] == [i in (2, 4) for i in range(8)]
    for index, path in enumerate(paths):
        expected = np.zeros((32, 32, 3)) if index in (2, 4) else fit(decode(path), 32)
        assert np.array_equal(stack.pixels[index].permute(1, 2, 0).numpy(), expected)


def test_the_second_time_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = picture_files(tmp_path, 3)
    first = stack_images(paths, 32, cache=tmp_path / "cache")
    monkeypatch.setattr(images, "decode", lambda path: pytest.fail(f"decoded {path}"))
    again = stack_images(paths, 32, cache=tmp_path / "cache")
    assert bool((first.pixels == again.pixels).all())
    with pytest.raises(pytest.fail.Exception, match="decoded"):
        stack_images(paths, 40, cache=tmp_path / "cache")


@pytest.mark.parametrize("size", [160, 224, 240, 299, 384])
def test_pictures_are_stored_a_little_larger(size: int) -> None:
    assert 1.07 <= stored_size(size) / size <= 1.15
