"""Pictures and radiographs: what is read, how it is shown, what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import item, write_enhanced, write_radiograph
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import BasicTextSRStorage

from osml.errors import InvalidInputError
from osml.imaging.dicom import BURNED_IN
from osml.imaging.dicom_picture import INVERTED
from osml.imaging.errors import DimensionError, GeometryError, ImagingError, LabelError, UnreadableError
from osml.imaging.masks import align, choose_label
from osml.imaging.picture import Picture
from osml.imaging.raster import MAX_PIXELS
from osml.imaging.read import read_image, read_mask, read_picture

RNG = np.random.default_rng(8)
GREY = RNG.integers(0, 256, (6, 9)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 4096, (6, 9)).astype(np.uint16)


def saved(path: Path, array: NDArray[Any], mode: str | None = None, **options: Any) -> Path:
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_eight_bits_stay_as_stored(tmp_path: Path, suffix: str) -> None:
    grey = read_picture(saved(tmp_path / f"g.{suffix}", GREY))
    assert np.array_equal(grey.array, GREY)
    assert np.array_equal(grey.rgb8(), np.stack([GREY] * 3, axis=2))
    colour = read_picture(saved(tmp_path / f"c.{suffix}", COLOUR))
    assert np.array_equal(colour.array, COLOUR)
    assert np.array_equal(colour.rgb8(), COLOUR)
    assert (colour.spacing_mm, colour.notes) == (None, ())
    assert colour.grey() == pytest.approx(COLOUR @ np.array([0.299, 0.587, 0.114]) / 255, rel=1e-5)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_spread_over_their_range_or_a_window(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"x.{suffix}", DEEP)
    low, high = int(DEEP.min()), int(DEEP.max())
    picture = read_picture(path)
    assert picture.array.dtype == np.uint16
    assert picture.array / 65535 == pytest.approx((DEEP - low) / (high - low), abs=1e-5)
    assert picture.notes == (f"no window in the file: its range {low} to {high} is shown",)
    assert picture.rgb8().min() == 0
    assert picture.rgb8().max() == 255
    windowed = read_picture(path, window=(2000, 1000))
    assert windowed.array / 65535 == pytest.approx(np.clip((DEEP - 1500.0) / 1000, 0, 1), abs=1e-5)
    assert windowed.notes == ()
    assert np.array_equal(read_image(path).array, DEEP)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colours_become_rgb(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "x.tif", np.full((4, 4, 3), (200, 30, 90), dtype=np.uint8), mode)
    assert np.abs(read_picture(path).rgb8().astype(int) - (200, 30, 90)).max() <= 2


def test_a_cmyk_jpeg(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", np.full((16, 16, 3), (200, 30, 90), dtype=np.uint8), "CMYK", quality=95)
    assert np.abs(read_picture(path).rgb8().astype(int) - (200, 30, 90)).max() <= 4


def test_palettes_and_bilevel(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR).quantize(4)
    palette.save(tmp_path / "p.png")
    assert np.array_equal(read_picture(tmp_path / "p.png").array, np.asarray(palette.convert("RGB")))
    Image.fromarray(GREY > 127).save(tmp_path / "b.png")
    assert np.array_equal(read_picture(tmp_path / "b.png").array, np.where(GREY > 127, 255, 0))


def test_a_camera_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turn a quarter clockwise
    path = saved(tmp_path / "x.png", GREY, exif=exif)
    assert np.array_equal(read_picture(path).array, np.rot90(GREY, -1))
    assert np.array_equal(read_image(path).array, np.rot90(GREY, -1))


def test_alpha_without_effect_is_dropped_and_transparency_refused(tmp_path: Path) -> None:
    opaque = np.dstack([COLOUR, np.full(COLOUR.shape[:2], 255, dtype=np.uint8)])
    assert np.array_equal(read_picture(saved(tmp_path / "o.png", opaque)).array, COLOUR)
    grey = np.dstack([GREY, np.full(GREY.shape, 255, dtype=np.uint8)])
    Image.fromarray(grey, "LA").save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png").array, GREY)
    opaque[2, 3, 3] = 254
    opaque[4, 1, 3] = 0
    for read in (read_picture, read_image, read_mask):
        with pytest.raises(DimensionError, match="2 of 54 pixels are transparent"):
            read(saved(tmp_path / "t.png", opaque))
    Image.fromarray(GREY).save(tmp_path / "key.png", transparency=int(GREY[0, 0]))
    with pytest.raises(DimensionError, match="transparent"):
        read_picture(tmp_path / "key.png")


def png(array: NDArray[np.uint16], colour: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write (PNG specification, 11.2)."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)), (b"IEND", b""),
    ]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks
    )


def test_sixteen_bits_of_colour_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(COLOUR.astype(np.uint16) * 256, 2))
    picture = read_picture(tmp_path / "x.png")
    assert np.array_equal(picture.array, COLOUR)
    assert picture.notes == ("16 bits a channel were read with 8",)


def test_a_tiff_that_stores_white_as_zero(tmp_path: Path) -> None:
    """Pillow turns 8 bits over when it writes and reads them, 16 bits neither time."""
    assert np.array_equal(read_image(saved(tmp_path / "x.tif", GREY, tiffinfo={262: 0})).array, GREY)
    path = saved(tmp_path / "y.tif", DEEP, tiffinfo={262: 0})
    assert DEEP.tobytes() in path.read_bytes()
    assert np.array_equal(read_image(path).array, 65535 - DEEP.astype(int))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3)])
def test_odd_sizes_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    assert read_picture(saved(tmp_path / "x.png", np.zeros(size[::-1], np.uint8))).array.shape == size[::-1]


def test_giants_are_refused_before_decoding(tmp_path: Path) -> None:
    for size in ((20_000, 20_000), (9_000, 9_000)):
        header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT")
        with pytest.raises(DimensionError, match=rf"x\.png: .*megapixels; at most {MAX_PIXELS // 10**6}"):
            read_picture(tmp_path / "x.png")
    path = write_radiograph(tmp_path / "x.dcm", GREY, Rows=20_000, Columns=20_000)
    with pytest.raises(DimensionError, match="20000×20000, 400 megapixels"):
        read_picture(path)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    noise = RNG.integers(0, 256, (64, 64)).astype(np.uint8)
    whole = saved(tmp_path / "x.jpg", noise).read_bytes()
    cases = {
        "truncated.jpg": whole[: len(whole) // 2], "empty.png": b"", "text.tif": b"hello",
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "page.png": b"<html>",
        "half.png": saved(tmp_path / "y.png", noise).read_bytes()[:200],
    }  # fmt: skip
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        for read in (read_picture, read_image, read_mask):
            with pytest.raises(UnreadableError, match=name):
                read(tmp_path / name)
    with pytest.raises(UnreadableError, match="no such file"):
        read_picture(tmp_path / "none.png")


@pytest.mark.full
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_random_damage_is_refused_or_harmless(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"x.{suffix}", COLOUR)
    whole = path.read_bytes()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        raw = bytearray(whole)
        for at in rng.integers(0, len(raw), 5):
            raw[at] = int(rng.integers(256))
        path.write_bytes(raw[: rng.integers(1, len(raw) + 1)] if seed % 2 else raw)
        try:
            picture = read_picture(path)
        except ImagingError:
            continue
        assert picture.array.size > 0


def test_several_pages_are_refused_but_previews_are_not(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY)] * 2
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DimensionError, match="2 pages"):
        read_picture(tmp_path / "x.tif")
    pages[0].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=pages[1:])
    assert read_picture(tmp_path / "x.jpg").array.shape == GREY.shape


def test_masks_in_colour_palettes(tmp_path: Path) -> None:
    labels = RNG.integers(0, 3, (5, 6)).astype(np.uint8)
    picture = Image.fromarray(labels, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").array, labels)
    picture.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9])
    picture.save(tmp_path / "g.png")
    assert np.array_equal(read_mask(tmp_path / "g.png").array, np.array([255, 0, 9])[labels])
    picture.putpalette([255, 255, 255, 255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "w.png")
    with pytest.raises(LabelError, match="first colour is not black"):
        read_mask(tmp_path / "w.png")


def test_a_mask_drawn_on_a_radiograph(tmp_path: Path) -> None:
    image = read_image(write_radiograph(tmp_path / "x.dcm", DEEP, PixelSpacing=[0.1, 0.2]))
    drawn = saved(tmp_path / "m.png", np.where(DEEP > 2000, 255, 0).astype(np.uint8))
    assert np.array_equal(choose_label(align(image, read_mask(drawn, image))[0]).array, DEEP > 2000)
    with pytest.raises(GeometryError, match="saved without its place"):
        align(image, read_mask(drawn))
    with pytest.raises(GeometryError, match="4×4"):
        align(image, read_mask(saved(tmp_path / "s.png", np.ones((4, 4), np.uint8)), image))


def test_a_lossy_mask_has_many_labels(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.jpg", np.where(RNG.random((32, 32)) < 0.5, 255, 0).astype(np.uint8))
    with pytest.raises(LabelError, match="exist and none was chosen"):
        choose_label(read_mask(path))


# Radiographs


def test_a_radiograph(tmp_path: Path) -> None:
    path = write_radiograph(
        tmp_path / "x.dcm",
        DEEP,
        BitsStored=12,
        ImagerPixelSpacing=[0.14, 0.15],
        WindowCenter=[2000, 1],
        WindowWidth=[1000, 2],
    )
    picture = read_picture(path)
    assert picture.spacing_mm == (0.15, 0.14)
    assert picture.spacing_source == "ImagerPixelSpacing"
    assert any("magnification" in note for note in picture.notes)
    assert picture.array.dtype == np.uint16
    image = read_image(path)
    assert np.array_equal(image.array, DEEP)
    assert image.spacing_mm == (0.15, 0.14)
    calibrated = write_radiograph(tmp_path / "y.dcm", DEEP, ImagerPixelSpacing=[0.2, 0.2], PixelSpacing=[0.1, 0.12])
    assert (read_picture(calibrated).spacing_mm, read_picture(calibrated).spacing_source) == (
        (0.12, 0.1),
        "PixelSpacing",
    )


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("slope, intercept", [(None, None), (1.5, -300)])
def test_windows_as_in_pydicom(
    tmp_path: Path, function: str | None, slope: float | None, intercept: float | None
) -> None:
    path = write_radiograph(
        tmp_path / "x.dcm", DEEP, BitsStored=12, WindowCenter=1800, WindowWidth=900, VOILUTFunction=function,
        RescaleSlope=slope, RescaleIntercept=intercept,
    )  # fmt: skip
    data = dcmread(path)
    expected = apply_voi_lut(apply_modality_lut(data.pixel_array, data), data)
    low, high = (0, 4095) if slope is None else (-300, 4095 * 1.5 - 300)
    assert read_picture(path).array / 65535 == pytest.approx((expected - low) / (high - low), abs=2e-5)


def test_an_explicit_window_is_linear_in_measured_values(tmp_path: Path) -> None:
    path = write_radiograph(
        tmp_path / "x.dcm", DEEP, WindowCenter=1, WindowWidth=2, RescaleSlope=2, RescaleIntercept=-1000
    )
    shown = read_picture(path, window=(3000, 2000)).array / 65535
    assert shown == pytest.approx(np.clip((DEEP * 2.0 - 1000 - 2000) / 2000, 0, 1), abs=1e-5)


@pytest.mark.parametrize("vr, bits", [("US", 12), ("OW", 12), ("US", 8)])
def test_tables_as_in_pydicom(tmp_path: Path, vr: str, bits: int) -> None:
    entries = np.sort(RNG.integers(0, 2**bits, 3000)).astype(np.uint16)
    table = item(LUTDescriptor=[3000, 500, bits])
    table.add_new("LUTData", vr, entries.tolist() if vr == "US" else entries.tobytes())
    table["LUTDescriptor"].VR = "US"
    path = write_radiograph(tmp_path / "x.dcm", DEEP, VOILUTSequence=[table], WindowCenter=1, WindowWidth=2)
    expected = entries[np.clip(DEEP.astype(int) - 500, 0, 2999)]
    if bits == 12:
        assert np.array_equal(apply_voi_lut(DEEP, dcmread(path)), expected)
    assert read_picture(path).array / 65535 == pytest.approx(expected / (2**bits - 1), abs=1e-5)
    measured = write_radiograph(tmp_path / "m.dcm", DEEP, ModalityLUTSequence=[table])
    assert np.array_equal(read_image(measured).array, expected)


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    table = item(LUTDescriptor=[3000, 500, 12])
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "US", [1, 2, 3])
    path = write_radiograph(tmp_path / "x.dcm", DEEP, VOILUTSequence=[table])
    with pytest.raises(UnreadableError, match=r"x\.dcm: its VOI table is damaged"):
        read_picture(path)
    assert read_picture(path, window=(2000, 100)).array.max() == 65535


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_white_as_zero_is_turned_over(tmp_path: Path, dtype: type[np.generic]) -> None:
    stored = DEEP.astype(dtype)
    tags = {"BitsStored": 16, "WindowCenter": 2000, "WindowWidth": 4001}
    black = write_radiograph(tmp_path / "b.dcm", stored, **tags)
    white = write_radiograph(tmp_path / "w.dcm", stored, PhotometricInterpretation="MONOCHROME1", **tags)
    assert np.array_equal(read_picture(white).array, 65535 - read_picture(black).array)
    assert INVERTED in read_picture(white).notes
    ends = 65535 if dtype is np.uint16 else -1
    assert np.array_equal(read_image(white).array, ends - stored.astype(int))
    assert INVERTED in read_image(white).notes


def test_without_a_window_the_range_without_padding_is_shown(tmp_path: Path) -> None:
    padded = DEEP.astype(np.int16)
    padded[0] = -2000
    path = write_radiograph(tmp_path / "x.dcm", padded, PixelPaddingValue=-2000)
    inside = padded[1:].astype(float)
    shown = read_picture(path)
    assert shown.array[1:] / 65535 == pytest.approx((inside - inside.min()) / np.ptp(inside), abs=1e-5)
    assert shown.array[0].max() == 0
    assert f"no window in the file: its range {inside.min():g} to {inside.max():g} is shown" in shown.notes


@pytest.mark.parametrize("name", ["SC_rgb_small_odd.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_rle.dcm"])
def test_colour(name: str) -> None:
    path = str(get_testdata_file(name))
    picture = read_picture(path)
    assert np.array_equal(picture.array, dcmread(path).pixel_array) or "cy" in name
    assert picture.rgb8().shape[2] == 3
    assert read_image(path).array == pytest.approx(picture.array @ np.array([0.299, 0.587, 0.114]))
    assert np.array_equal(read_image(path, channel="green").array, picture.array[..., 1])


def test_ybr_becomes_rgb(tmp_path: Path) -> None:
    """PS3.3 C.7.6.3.1.2: full-range YCbCr of ITU-R BT.601."""
    weights = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    stored = np.rint(COLOUR @ weights.T + [0, 128, 128]).clip(0, 255).astype(np.uint8)
    path = write_radiograph(
        tmp_path / "x.dcm", stored, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="YBR_FULL"
    )
    assert np.abs(read_picture(path).array.astype(int) - COLOUR).max() <= 2


def test_burned_in_text_is_told(tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "x.dcm", DEEP, BurnedInAnnotation="YES")
    assert BURNED_IN in read_picture(path).notes
    assert BURNED_IN in read_image(path).notes
    assert BURNED_IN not in read_picture(write_radiograph(path, DEEP, BurnedInAnnotation="NO")).notes


def test_what_is_no_radiograph_is_refused(tmp_path: Path) -> None:
    report = write_radiograph(tmp_path / "r.dcm", DEEP, SOPClassUID=BasicTextSRStorage, Rows=None)
    film = write_enhanced(tmp_path / "f.dcm", np.stack([DEEP] * 3), [(0, 0, k) for k in range(3)])
    odd = write_radiograph(tmp_path / "o.dcm", DEEP, PhotometricInterpretation="HSV")
    short = write_radiograph(tmp_path / "s.dcm", DEEP, Rows=100)
    cases: list[tuple[Path, type[ImagingError], str]] = [
        (report, UnreadableError, "Basic Text SR Storage, not an image"),
        (film, DimensionError, "3 frames"),
        (odd, UnreadableError, "photometric interpretation is none of"),
        (short, UnreadableError, "cannot be decoded"),
    ]
    for path, kind, message in cases:
        with pytest.raises(kind, match=message):
            read_picture(path)
    (tmp_path / "bare.dcm").write_bytes(b"\x08\x00\x05\x00")
    with pytest.raises(UnreadableError, match=r"bare\.dcm: does not begin as DICOM"):
        read_image(tmp_path / "bare.dcm")


def test_an_unknown_window_function_is_refused(tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "x.dcm", DEEP, WindowCenter=9, WindowWidth=9, VOILUTFunction="CUBIC")
    with pytest.raises(UnreadableError, match="window function is none of LINEAR, LINEAR_EXACT, SIGMOID"):
        read_picture(path)


@pytest.mark.parametrize("window", [(1, 0), (1, -1), (float("nan"), 1), (1, 2, 3)])
def test_wrong_windows_are_refused(tmp_path: Path, window: Any) -> None:
    with pytest.raises(InvalidInputError, match="a width above 0"):
        read_picture(saved(tmp_path / "x.png", DEEP), window=window)


def test_colour_has_no_window(tmp_path: Path) -> None:
    for path in (saved(tmp_path / "x.png", COLOUR), Path(str(get_testdata_file("SC_rgb_rle.dcm")))):
        with pytest.raises(InvalidInputError, match="colour has no window"):
            read_picture(path, window=(1, 2))


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8)])
def test_a_picture_is_grey_or_colour(array: NDArray[Any]) -> None:
    with pytest.raises(DimensionError, match="uint8 or uint16 is expected"):
        Picture(array)
