"""Opening whole slides, and their pixels: the fast way beside OpenSlide's own, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import data_path
from imaging.slide_files import GLASS, picture, write_tiff

from osml.errors import InvalidInputError
from osml.imaging.errors import ImagingError, ScaleError, UnreadableError
from osml.imaging.slides import Slide, open_slide
from osml.imaging.slides_job import describe
from osml.imaging.slides_sources import OpenSlideSource

pytest.importorskip("openslide", reason="the extra `slides` is not installed")
PICTURE = picture(700, 900)
# Inside, over tiles, at borders, beyond all four of them.
REGIONS = ((0, 0, 256, 256), (100, 77, 300, 290), (-40, -30, 120, 90), (300, 200, 500, 500), (890, 690, 64, 64))


def by_openslide(slide: Slide, level: int, region: tuple[int, int, int, int]) -> np.ndarray:
    source = slide._source
    assert isinstance(source, OpenSlideSource)
    return source.read_region(level, *region)


@pytest.mark.parametrize(
    "compression, ycbcr, tile", [("jpeg", True, 256), ("jpeg", False, 240), ("deflate", False, 256), ("lzw", False, 64)]
)
def test_tiles_are_decoded_to_the_pixels_of_openslide(tmp_path: Path, compression: str, ycbcr: bool, tile: int) -> None:
    path = write_tiff(tmp_path / "a.tif", PICTURE, compression=compression, ycbcr=ycbcr, tile=tile)
    with open_slide(path) as slide:
        assert [(v.width, v.height, v.segment) for v in slide.levels] == [
            (900, 700, (tile, tile)), (450, 350, (tile, tile)), (225, 175, (tile, tile)),
        ]  # fmt: skip
        assert slide.mpp == pytest.approx(0.5)
        for level in range(3):
            for region in REGIONS:
                assert np.array_equal(slide.read(level, *region), by_openslide(slide, level, region))
        # The direct way was taken: what agreed is remembered.
        assert slide._source._agrees == {0: True, 1: True, 2: True}  # type: ignore[attr-defined]
    if compression != "jpeg":
        with open_slide(path) as slide:
            assert np.array_equal(slide.read(0, 100, 50, 200, 100), PICTURE[50:150, 100:300])


def test_outside_of_a_slide_is_white(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tif", PICTURE, compression="deflate")) as slide:
        read = slide.read(0, -10, 690, 20, 20)
    assert (read[:, :10] == 255).all()
    assert (read[10:] == 255).all()
    assert np.array_equal(read[:10, 10:], PICTURE[690:, :10])


@pytest.mark.data
@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "openslidepy_boxes.tiff", "openslidepy_small.svs"])
def test_real_slides_are_decoded_to_the_pixels_of_openslide(name: str) -> None:
    with open_slide(data_path("slides", name), mpp=0.5) as slide:
        assert all(level.segment != (0, 0) for level in slide.levels)
        for number, level in enumerate(slide.levels):
            x, y = min(100, level.width // 3), min(130, level.height // 3)
            # Where a level is not a whole number of times smaller, OpenSlide is exact at the corner only.
            exact = level.downsample == round(level.downsample)
            for region in ((0, 0, 1200, 900), (x, y, 500, 700))[: 2 if exact else 1]:
                assert np.array_equal(slide.read(number, *region), by_openslide(slide, number, region))


@pytest.mark.data
@pytest.mark.parametrize("name", ["openslidepy_unopenable.tiff", "openslidepy_unreadable.svs"])
def test_real_broken_slides_are_refused_at_once(name: str) -> None:
    with pytest.raises(UnreadableError, match=name.split(".")[0]):
        open_slide(data_path("slides", name), mpp=0.5)


def test_a_scale_that_nobody_wrote_is_asked_for_by_name(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "P7.tif", PICTURE, mpp=None)
    with pytest.raises(ScaleError, match="P7: the file does not say") as caught:
        open_slide(path)
    assert "`mpp`" in str(caught.value)
    assert caught.value.reason == "mpp"
    with open_slide(path, mpp=0.25, name="seven") as slide:
        assert (slide.mpp, slide.mpp_source, slide.name) == (0.25, "override", "seven")


def test_the_resolution_of_a_printer_is_no_scale(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", PICTURE, mpp=25_400 / 72)
    with pytest.raises(ScaleError, match=r"352\.8 × 352\.8 µm per pixel; 0\.05 to 20 are plausible"):
        open_slide(path)


def test_an_override_that_contradicts_the_file_is_noted(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", PICTURE, mpp=0.5)
    with open_slide(path, mpp=0.25) as slide:
        assert slide.notes == ("mpp 0.25 was given; the file says 0.5",)
        assert [level.mpp for level in slide.levels] == [0.25, 0.5, 1.0]
    with pytest.raises(InvalidInputError, match="mpp 0"):
        open_slide(path, mpp=0)


def test_what_is_no_slide(tmp_path: Path) -> None:
    import tifffile

    (tmp_path / "a.svs").write_bytes(b"no slide at all" * 99)
    tifffile.imwrite(tmp_path / "b.tif", PICTURE)
    for name, words in (("a.svs", "known format"), ("b.tif", "not a tiled TIFF"), ("c.svs", "no such file")):
        with pytest.raises(UnreadableError, match=words):
            open_slide(tmp_path / name)


def test_a_truncated_slide_says_where_it_ends(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", PICTURE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(UnreadableError, match=r"a\.tif"):
        open_slide(path)
    # Tags first, pixels behind: the directory is whole, tiles are missing.
    import tifffile

    with tifffile.TiffWriter(path) as writer:
        writer.write(PICTURE, tile=(256, 256), compression="jpeg", photometric="rgb", metadata=None,
                     resolution=(2e4, 2e4), resolutionunit="CENTIMETER")  # fmt: skip
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.truncate(size - 5000)
    with pytest.raises(UnreadableError, match=r"truncated: the file ends at byte .* of 12 tiles of the 900×700 level"):
        open_slide(path)


def test_a_damaged_tile_is_named_when_it_is_read(tmp_path: Path) -> None:
    import tifffile

    path = write_tiff(tmp_path / "a.tif", PICTURE, levels=1)
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    with path.open("r+b") as stream:
        stream.seek(offset + 2)
        stream.write(b"\xff" * (count - 4))
    with open_slide(path) as slide:
        assert slide.read(0, 600, 500, 50, 50).shape == (50, 50, 3)
        with pytest.raises(UnreadableError, match="tile 0 of its 900×700 level cannot be decoded"):
            slide.read(0, 10, 10, 50, 50)


def test_an_ome_tiff_has_all_of_its_levels(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "a.ome.tif"
    how = {"tile": (256, 256), "compression": "deflate", "photometric": "rgb"}
    sizes = {"PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(PICTURE, subifds=1, metadata={"axes": "YXS", **sizes}, **how)
        writer.write(np.ascontiguousarray(PICTURE[::2, ::2]), subfiletype=1, **how)
    with open_slide(path) as slide:
        assert (slide.mpp, [level.width for level in slide.levels]) == (0.25, [900, 450])
        assert np.array_equal(slide.read(1, 10, 20, 100, 90), PICTURE[::2, ::2][20:110, 10:110])


def test_tiles_that_were_never_written_are_white(tmp_path: Path) -> None:
    import imagecodecs
    import tifffile

    data = imagecodecs.jpeg8_encode(PICTURE[:256, :256], level=90, colorspace="RGB", outcolorspace="YCBCR",
                                    subsampling="420")  # fmt: skip
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(iter([data, b"", data, data]), shape=(500, 500, 3), dtype=np.uint8, tile=(256, 256),
                     compression="jpeg", photometric="rgb", subsampling=(2, 2), metadata=None, resolution=(2e4, 2e4),
                     resolutionunit="CENTIMETER")  # fmt: skip
    with open_slide(tmp_path / "a.tif") as slide:
        read = slide.read(0, 0, 0, 500, 256)
    assert (read[:, 256:] == 255).all()
    assert abs(read[:, :256].astype(int) - GLASS).mean() < 60


def test_metadata_that_names_a_person_is_not_kept(tmp_path: Path) -> None:
    secrets = "Date = 01/02/03|User = Dr-Who|Filename = Smith-John|ImageID = 424242|ScanScope ID = CP99|Title = Smith"
    description = f"Aperio Image Library v1\r\n900x700 [0,0 900x700] (256x256) JPEG/RGB Q=85|MPP = 0.25|{secrets}"
    path = write_tiff(tmp_path / "a.svs", PICTURE, mpp=None, description=description, levels=1)
    with open_slide(path) as slide:
        assert (slide.vendor, slide.mpp) == ("aperio", 0.25)
        text = repr(slide) + describe(slide)
    for secret in ("01/02/03", "Who", "Smith", "424242", "CP99"):
        assert secret not in text


def test_a_region_must_have_a_size(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tif", PICTURE)) as slide:
        for level, w in ((3, 5), (-1, 5), (0, 0)):
            with pytest.raises(InvalidInputError, match="3 levels exist"):
                slide.read(level, 0, 0, w, 5)
        assert slide.level_for(0.5) == 0
        assert slide.level_for(1.01) == 1
        assert slide.level_for(1.9) == 1
        with pytest.raises(ImagingError, match="would be invented"):
            slide.level_for(0.4)
