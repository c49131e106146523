"""DICOM series and multi-frame files as volumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import item, write_enhanced, write_file, write_series, write_slice
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
    UltrasoundMultiFrameImageStorage,
)  # fmt: skip

from osml.imaging.dicom import BURNED_IN, LOSSY, read_values
from osml.imaging.errors import DimensionError, DirectionError, ImagingError, SeriesError, UnreadableError
from osml.imaging.read import image_files, read_image
from osml.imaging.volume import simple_itk

RNG = np.random.default_rng(11)
ARRAY = RNG.integers(-1000, 3000, (5, 4, 6)).astype(np.int16)
# Rows and columns turned by 30° about x, then 20° about z.
C, S = np.cos(np.radians([30, 20])), np.sin(np.radians([30, 20]))
OBLIQUE = (C[1], S[1], 0.0, -S[1] * C[0], C[1] * C[0], S[0])


def test_a_series_is_sorted_and_placed_as_by_itk(tmp_path: Path) -> None:
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    for k, number in enumerate([3, 0, 4, 1, 2]):
        position = np.array([-12.5, 30, 7]) + k * 2.5 * normal
        write_slice(tmp_path / f"IM{number}", ARRAY[k], position, ImageOrientationPatient=list(OBLIQUE))
    sitk = simple_itk()
    peer = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    volume = read_image(tmp_path)
    assert np.array_equal(volume.array, ARRAY)
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(peer))
    assert volume.array.dtype == np.float64
    assert volume.spacing_mm == pytest.approx(peer.GetSpacing(), rel=1e-9)
    assert volume.spacing_mm == pytest.approx((0.75, 0.5, 2.5))
    assert volume.origin_mm == pytest.approx(peer.GetOrigin(), rel=1e-9)
    assert volume.direction == pytest.approx(peer.GetDirection(), rel=1e-6, abs=1e-9)
    assert volume.notes == ()


def test_every_slice_has_its_own_scale(tmp_path: Path) -> None:
    for k in range(3):
        write_slice(tmp_path / f"{k}.dcm", ARRAY[k], (0, 0, k), RescaleSlope=0.5 + k, RescaleIntercept=-1024)
    expected = ARRAY[:3] * np.array([0.5, 1.5, 2.5])[:, None, None] - 1024
    assert read_image(tmp_path).array == pytest.approx(expected, rel=1e-12)


def test_unused_high_bits_do_not_count(tmp_path: Path) -> None:
    stored = (ARRAY[:2] & 0x0FFF).astype(np.uint16)
    write_series(tmp_path, stored | np.uint16(0xA000), BitsStored=12)
    assert np.array_equal(read_image(tmp_path).array, stored)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings(tmp_path: Path, syntax: str) -> None:
    write_series(tmp_path, ARRAY, syntax=syntax)
    assert np.array_equal(read_image(tmp_path).array, ARRAY)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_lossless_compression_by_itk(tmp_path: Path, compressor: str) -> None:
    sitk = simple_itk()
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.SetFileName(str(tmp_path / "x.dcm"))
    large = np.tile(ARRAY[:1], (1, 16, 16))
    writer.Execute(sitk.GetImageFromArray(large))
    assert "Lossless" in dcmread(tmp_path / "x.dcm").file_meta.TransferSyntaxUID.name
    assert np.array_equal(read_image(tmp_path / "x.dcm").array, large[0])


@pytest.mark.parametrize("name", ["RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian", "implicit"])
def test_one_slice_in_every_encoding(name: str) -> None:
    plain = read_image(str(get_testdata_file("MR_small.dcm")))
    assert np.array_equal(read_image(str(get_testdata_file(f"MR_small_{name}.dcm"))).array, plain.array)
    assert plain.array.std() > 100


def test_a_multiframe_file(tmp_path: Path) -> None:
    positions = [(-10, 20, z) for z in (9, 0, 3, 6, 12)]
    scale = item(RescaleSlope=2, RescaleIntercept=-5)
    volume = read_image(write_enhanced(tmp_path / "x.dcm", ARRAY, positions, PixelValueTransformationSequence=[scale]))
    assert np.array_equal(volume.array, ARRAY[[1, 2, 3, 0, 4]] * 2.0 - 5)
    assert (volume.spacing_mm, volume.origin_mm) == ((0.75, 0.5, 3.0), (-10, 20, 0))
    (tmp_path / "folder").mkdir()
    shutil.move(tmp_path / "x.dcm", tmp_path / "folder" / "x.dcm")
    assert np.array_equal(read_image(tmp_path / "folder").array, volume.array)


def test_positions_may_be_rounded(tmp_path: Path) -> None:
    folder = write_series(tmp_path, ARRAY, step=10 / 3)
    for k, file in enumerate(sorted(folder.iterdir())):
        data = dcmread(file)
        data.ImagePositionPatient = [-10, 20, round(-40 + k * 10 / 3, 1)]
        data.save_as(file)
    assert read_image(folder).spacing_mm[2] == pytest.approx(10 / 3, rel=0.01)


def broken(folder: Path, case: str) -> None:
    """A good series of five slices, then the fault."""
    write_series(folder, ARRAY)
    third = folder / "IM0002.dcm"
    far = (-10.0, 20.0, -25.0)
    match case:
        case "missing":
            third.unlink()
        case "two missing":
            third.unlink()
            (folder / "IM0003.dcm").unlink()
        case "doubled":
            shutil.copy(third, folder / "copy.dcm")
        case "two series":
            write_slice(folder / "z.dcm", ARRAY[0], far, SeriesInstanceUID="2.25.1")
        case "other size":
            write_slice(folder / "z.dcm", ARRAY[0, :3], far)
        case "other orientation":
            write_slice(folder / "z.dcm", ARRAY[0], far, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
        case "other spacing":
            write_slice(folder / "z.dcm", ARRAY[0], far, PixelSpacing=[0.5, 0.5])
        case "no place":
            write_slice(folder / "z.dcm", ARRAY[0], far, ImagePositionPatient=None)
        case "4D":
            write_slices_again(folder)
        case "tilt":
            for k in range(5):
                write_slice(folder / f"IM{k:04d}.dcm", ARRAY[k], (-10, 20 + k * 0.8, -40 + k * 3))
        case "skewed cosines":
            for k in range(5):
                write_slice(
                    folder / f"IM{k:04d}.dcm", ARRAY[k], (0, 0, k), ImageOrientationPatient=[1, 0, 0, 0.1, 0.995, 0]
                )
        case "report":
            write_file(folder / "z.dcm", ARRAY[0], BasicTextSRStorage, Rows=None, Columns=None)
        case "contours":
            write_file(folder / "z.dcm", ARRAY[0], RTStructureSetStorage, Rows=None, Columns=None)
        case "no DICOM":
            third.write_bytes(b"x" * 200)
        case "single":
            for k in range(1, 5):
                (folder / f"IM{k:04d}.dcm").unlink()
        case "truncated":
            third.write_bytes(third.read_bytes()[:-20])
        case "film":
            write_file(folder / "z.dcm", np.stack([ARRAY[0]] * 3), UltrasoundMultiFrameImageStorage)


def write_slices_again(folder: Path) -> None:
    for k in range(5):
        write_slice(folder / f"later{k}.dcm", ARRAY[k], (-10.0, 20.0, -40.0 + k * 3), AcquisitionNumber=2)


@pytest.mark.parametrize(
    "case, kind, words",
    [
        (
            "missing",
            SeriesError,
            ["usually 3 mm", "6 mm between IM0001.dcm (-37 mm) and IM0003.dcm (-31 mm): 1 missing"],
        ),
        ("two missing", SeriesError, ["9 mm between", ": 2 missing"]),
        ("doubled", SeriesError, ["-34 mm (IM0002.dcm, copy.dcm)", "Take the others out"]),
        ("two series", SeriesError, ["2 series", "5 files (first IM0000.dcm), 1 files (first z.dcm)", "own folder"]),
        ("other size", SeriesError, ["2 sizes: 5 slices (6×4, first IM0000.dcm), 1 slices (6×3, first z.dcm)"]),
        ("other orientation", SeriesError, ["2 orientations: 5 slices (first IM0000.dcm), 1 slices (first z.dcm)"]),
        ("other spacing", SeriesError, ["2 pixel spacings"]),
        ("no place", SeriesError, ["1 of 6 slices do not say where they lie, z.dcm"]),
        ("4D", DimensionError, ["2 slices at each of 5 places", "AcquisitionNumber (2 values)"]),
        ("tilt", DirectionError, ["move 3.2 mm sideways over 12 mm", "tilt"]),
        ("skewed cosines", DirectionError, ["not perpendicular"]),
        ("report", UnreadableError, ["z.dcm: Basic Text SR Storage, not an image"]),
        ("contours", UnreadableError, ["z.dcm: RT Structure Set Storage, not an image"]),
        ("no DICOM", UnreadableError, ["IM0002.dcm should be DICOM, but begin otherwise"]),
        ("single", SeriesError, ["a single slice, IM0000.dcm"]),
        ("truncated", UnreadableError, ["IM0002.dcm", "cannot be decoded"]),
        ("film", SeriesError, ["files of several frames, z.dcm"]),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path: Path, case: str, kind: type[ImagingError], words: list[str]) -> None:
    broken(tmp_path / "series", case)
    with pytest.raises(ImagingError) as caught:
        read_image(tmp_path / "series")
    assert type(caught.value) is kind
    for part in [str(tmp_path / "series"), *words]:
        assert part in str(caught.value)


def test_other_files_are_passed_over_and_counted(tmp_path: Path) -> None:
    write_series(tmp_path, ARRAY)
    for name in ("DICOMDIR", ".hidden", "report.pdf", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert read_image(tmp_path).notes == ("2 other files in the folder were passed over",)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="no DICOM files among 0 files"):
        read_image(tmp_path)
    (tmp_path / "series").mkdir()
    with pytest.raises(UnreadableError, match="1 subfolders: name the one"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    "positions, message",
    [
        ([(0, 0, z) for z in (0, 1, 2, 4, 5)], r"2 mm between frame 3 \(2 mm\) and frame 4 \(4 mm\): 1 missing"),
        ([(0, 0, 1)] * 5, "5 slices at each of 1 places"),
        ([(0, 0, 1)] * 2 + [(0, 0, 2)] * 3, r"1 mm \(frame 1, frame 2\), 2 mm \(frame 3"),
    ],
)
def test_frames_that_are_no_volume(tmp_path: Path, positions: list[Any], message: str) -> None:
    with pytest.raises(ImagingError, match=message):
        read_image(write_enhanced(tmp_path / "x.dcm", ARRAY, positions))


def test_a_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DimensionError, match=r"5 frames without their places.*Ultrasound Multi-frame"):
        read_image(write_file(tmp_path / "x.dcm", ARRAY, UltrasoundMultiFrameImageStorage))


def test_a_declared_giant_is_refused_before_decoding(tmp_path: Path) -> None:
    path = write_file(tmp_path / "x.dcm", ARRAY, UltrasoundMultiFrameImageStorage, Rows=60000, Columns=60000)
    with pytest.raises(DimensionError, match="18000000000 voxels are declared"):
        read_values(path)


def test_notes_tell_burned_in_text_and_lossy_compression(tmp_path: Path) -> None:
    write_series(tmp_path, ARRAY, BurnedInAnnotation="YES", LossyImageCompression="01")
    assert set(read_image(tmp_path).notes) == {BURNED_IN, LOSSY}
    assert read_image(tmp_path).like(ARRAY).notes == read_image(tmp_path).notes


@pytest.mark.parametrize("fault", [slice(0, 60), slice(132, 140), slice(140, 400)])
def test_damaged_files_are_refused(tmp_path: Path, fault: slice) -> None:
    path = write_slice(tmp_path / "x.dcm", ARRAY[0], (0, 0, 0))
    raw = bytearray(path.read_bytes())
    del raw[fault]
    path.write_bytes(raw)
    with pytest.raises(UnreadableError, match=r"x\.dcm"):
        read_image(path)


@pytest.mark.full
def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "x.dcm", ARRAY[0], (0, 0, 0), RescaleSlope=2)
    whole = path.read_bytes()
    outcomes = set()
    for seed in range(400):
        rng = np.random.default_rng(seed)
        raw = bytearray(whole)
        for at in rng.integers(128, len(raw), 6):
            raw[at] = int(rng.integers(256))
        path.write_bytes(raw[: rng.integers(300, len(raw) + 1)] if seed % 2 else raw)
        try:
            outcomes.add(read_image(path).array.shape)
        except ImagingError as error:
            outcomes.add(type(error))
    assert UnreadableError in outcomes
    assert (4, 6) in outcomes


def test_a_damaged_deflated_file_is_refused(tmp_path: Path) -> None:
    raw = Path(str(get_testdata_file("image_dfl.dcm"))).read_bytes()
    (tmp_path / "x.dcm").write_bytes(raw[:3000])
    with pytest.raises(UnreadableError, match=r"x\.dcm"):
        read_image(tmp_path / "x.dcm")


def test_the_files_of_an_image(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", ARRAY)
    assert [file.name for file in image_files(folder)] == [f"IM000{k}.dcm" for k in range(5)]
    sitk = simple_itk()
    for header, data in (("x.mhd", "x.raw"), ("x.nhdr", "x.raw"), ("y.mha", None), ("y.nrrd", None)):
        sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(tmp_path / header))
        names = [file.name for file in image_files(tmp_path / header)]
        assert names == ([header, data] if data else [header])
    (tmp_path / "x.raw").unlink()
    with pytest.raises(UnreadableError, match=r"x\.mhd: the data file"):
        image_files(tmp_path / "x.mhd")
    with pytest.raises(UnreadableError, match="no such file"):
        image_files(tmp_path / "none.nii")
