"""Rings in mm, their volumes, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from radiomics_data import sphere

from osml.errors import InvalidInputError
from osml.imaging.errors import RegionError
from osml.imaging.volume import Volume
from osml.radiomics import extract
from osml.radiomics.regions import make_regions, surface_distance
from osml.radiomics.settings import MRI_RINGS, Settings, ring_mm

RADIUS = 12.0


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 2), (0.7, 0.7, 3.3), (1, 1, 5), (2, 2, 2)])
def test_rings_of_a_ball_against_its_volume(spacing: tuple[float, ...]) -> None:
    """Distances start at the centres of the outermost mask voxels, a third to a half of a voxel inside the surface.

    So a ring from the mask is too thin by that much, which is most for thick slices; a ring that starts further out
    loses at both ends and keeps its thickness.
    """
    ball = sphere(RADIUS, spacing, 9)
    regions = make_regions(ball, ("tumour", "0-6mm", "tumour+6mm"))
    voxel = math.prod(spacing)
    inner, ring, both = (region.inside.sum() * voxel for region in regions)

    def volume(r: float) -> float:
        return 4 / 3 * math.pi * r**3

    assert inner == pytest.approx(volume(RADIUS), rel=0.025)
    assert both == pytest.approx(inner + ring, rel=1e-12)
    reached = (both * 3 / 4 / math.pi) ** (1 / 3)
    lost = RADIUS + 6 - reached
    # Half a voxel's diagonal bounds how far inside the surface a boundary voxel's centre can lie.
    assert 0 < lost < math.hypot(*spacing) / 2
    assert ring == pytest.approx(volume(RADIUS + 6 - lost) - volume(RADIUS), rel=0.02)
    assert 0.85 < ring / (volume(RADIUS + 6) - volume(RADIUS)) < 1


def test_rings_are_disjoint_or_cumulative_as_named() -> None:
    ball = sphere(6, (1, 1, 2), 8)
    names = ("tumour", "0-2mm", "2-4mm", "0-4mm", "tumour+4mm")
    lesion, first, second, wide, whole = (region.inside for region in make_regions(ball, names))
    assert not (lesion & wide).any()
    assert not (first & second).any()
    assert np.array_equal(first | second, wide)
    assert np.array_equal(lesion | wide, whole)


def test_distance_is_in_mm_along_each_axis() -> None:
    array = np.zeros((9, 9, 9), dtype=bool)
    array[4, 4, 4] = True
    distance = surface_distance(Volume(array, (0.5, 1.0, 3.0)))
    assert distance[4, 4, 6] == pytest.approx(1.0)
    assert distance[4, 6, 4] == pytest.approx(2.0)
    assert distance[5, 4, 4] == pytest.approx(3.0)


def test_a_ring_thinner_than_the_slices_stays_in_plane_and_says_so() -> None:
    ball = sphere(9, (1, 1, 5), 10)
    thin, wide = make_regions(ball, ("0-2mm", "0-6mm"))
    assert thin.in_plane_only
    assert not wide.in_plane_only
    beyond = ~ball.array.any(axis=(1, 2))
    assert not thin.inside[beyond].any()
    assert wide.inside[beyond].any()


def test_a_ring_that_leaves_the_image_is_refused_or_clipped() -> None:
    ball = sphere(6, (1, 1, 1), 1)
    with pytest.raises(RegionError, match="leaves the image"):
        make_regions(ball, ("0-4mm",))
    (clipped,) = make_regions(ball, ("0-4mm",), leaving="clip")
    assert 0.2 < clipped.clipped < 0.9


def test_the_body_clips_rings_and_the_share_is_told() -> None:
    ball = sphere(6, (1, 1, 1), 6)
    body = np.zeros(ball.array.shape, dtype=bool)
    body[:, :, : body.shape[2] // 2] = True
    lesion, ring = make_regions(ball, ("tumour", "0-4mm"), body=body)
    assert np.array_equal(lesion.inside, ball.array)
    assert not (ring.inside & ~body).any()
    assert ring.clipped == pytest.approx(0.55, abs=0.06)


def test_an_empty_ring_is_refused() -> None:
    with pytest.raises(RegionError, match="empty on a grid of 4×4×4 mm"):
        make_regions(sphere(12, (4, 4, 4), 8), ("0-2mm",))


def test_rings_at_the_image_border_of_a_picture() -> None:
    array = np.zeros((30, 30), dtype=bool)
    array[10:20, 10:20] = True
    (ring,) = make_regions(Volume(array, (0.5, 0.5)), ("0-1mm",))
    assert ring.inside.sum() == 4 * 10 * 2 + 4  # two pixels each side, one in each corner


@pytest.mark.parametrize("name", ["tumor", "0-2", "2-0mm", "0-0mm", "tumour+0mm", "tumour+1-2mm", ""])
def test_unknown_regions_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="region"):
        ring_mm(name)


def test_the_preset_is_the_seven_regions() -> None:
    assert Settings(regions=("mri-rings",)).regions == MRI_RINGS
    assert len(MRI_RINGS) == 7


def two_balls() -> tuple[np.ndarray, tuple[float, float, float]]:
    """Label 1 and label 2, 2 mm apart."""
    z, y, x = np.ogrid[-10:11, -12:13, -20:21]
    return (y**2 + z**2 + (x + 7) ** 2 <= 36) + 2 * (y**2 + z**2 + (x - 7) ** 2 <= 36), (1.0, 1.0, 1.0)


def test_other_lesions_are_taken_from_the_rings() -> None:
    labels, spacing = two_balls()
    image = Volume(np.random.default_rng(1).normal(100, 30, labels.shape), spacing)
    mask = image.like(labels.astype(np.uint8))
    rings = ("tumour", "0-4mm", "tumour+4mm")
    plain = {"label": 1.0, "regions": rings, "classes": ("firstorder",)}
    kept, taken = (extract(image, mask, Settings(**plain, others=others)) for others in ("keep", "subtract"))
    ring = make_regions(mask.like(labels == 1), ("0-4mm",))[0].inside
    lost = int((ring & (labels == 2)).sum())
    assert lost > 30
    assert (kept["voxels"] - taken["voxels"]).tolist() == [0, lost, lost]
    assert taken["clipped_share"].tolist() == pytest.approx([0, lost / kept["voxels"][1], lost / kept["voxels"][2]])
    assert kept["clipped_share"].tolist() == [0, 0, 0]


def test_other_lesions_are_taken_also_when_resampling() -> None:
    labels, spacing = two_balls()
    image = Volume(np.random.default_rng(1).normal(100, 30, labels.shape), spacing)
    mask = image.like(labels.astype(np.uint8))
    for crop in ("shared", "compat"):
        plain = {"label": 1.0, "regions": ("0-4mm",), "classes": ("firstorder",), "spacing_mm": (0.8, 0.8, 0.8)}
        kept, taken = (extract(image, mask, Settings(**plain, crop=crop, others=o)) for o in ("keep", "subtract"))
        share = 1 - taken["voxels"][0] / kept["voxels"][0]
        assert 0.01 < share < 0.5
        assert taken["clipped_share"][0] == pytest.approx(share)


def test_a_label_of_several_parts_is_one_lesion_with_one_surface() -> None:
    labels, spacing = two_balls()
    both = Volume(labels > 0, spacing)
    ring = make_regions(both, ("0-4mm",))[0].inside
    single = [make_regions(Volume(labels == k, spacing), ("0-4mm",))[0].inside for k in (1, 2)]
    assert np.array_equal(ring, (single[0] | single[1]) & ~both.array)


def test_rings_do_not_depend_on_the_room_around_the_lesion() -> None:
    ball = sphere(6, (1, 1, 2), 8)
    wide = Volume(np.pad(ball.array, 7), ball.spacing_mm)
    names = ("0-2mm", "2-5mm", "tumour+3mm")
    for a, b in zip(make_regions(ball, names), make_regions(wide, names), strict=True):
        assert np.array_equal(a.inside, b.inside[7:-7, 7:-7, 7:-7])
