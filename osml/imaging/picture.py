"""A picture or radiograph as it is meant to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.imaging.errors import DimensionError

# ITU-R BT.601: what "grey" of a colour picture means throughout.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Picture:
    """Display values: black is 0, white the largest value of the type.

    Attributes
    ----------
    array : uint8 or uint16, grey (y, x) or colour (y, x, 3)
    spacing_mm : of a pixel along x, y; None where the file does not know it
    spacing_source : the DICOM attribute that the spacing was read from; empty where there is none
    notes : what a reader should know (how 16 bits were scaled, text burned into the pixels)
    name : file or other words for messages

    Examples
    --------
    >>> picture = Picture(np.array([[0, 257], [514, 65535]], dtype=np.uint16))
    >>> picture.rgb8()[..., 0].tolist(), picture.rgb8().shape
    ([[0, 1], [2, 255]], (2, 2, 3))
    """

    array: NDArray[Any]
    spacing_mm: tuple[float, float] | None = None
    spacing_source: str = ""
    notes: tuple[str, ...] = ()
    name: str = "picture"

    def __post_init__(self) -> None:
        shape, kind = self.array.shape, self.array.dtype
        grey_or_colour = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
        if kind not in (np.uint8, np.uint16) or not grey_or_colour or 0 in shape:
            raise DimensionError(f"{self.name}: {shape} of {kind}; (y, x) or (y, x, 3) of uint8 or uint16 is expected")

    def rgb8(self) -> NDArray[np.uint8]:
        """Colour with 8 bits, (y, x, 3); grey is repeated, 16 bits are rounded."""
        array = self.array
        if array.dtype == np.uint16:
            array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
        if array.ndim == 2:
            array = np.repeat(array[..., None], 3, axis=2)
        return np.ascontiguousarray(array)

    def grey(self) -> NDArray[np.float32]:
        """Brightness (y, x) from 0 to 1; of colour the ITU-R 601 luma."""
        top = np.float32(np.iinfo(self.array.dtype).max)
        array = self.array.astype(np.float32)
        if array.ndim == 3:
            array = array @ np.array(LUMA, dtype=np.float32)
        return array / top


def spread(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint16]:
    """Values as uint16 display values: `low` and below become 0, `high` and above 65535.

    >>> spread(np.array([-5, 0, 50, 100, 200]), 0, 100).tolist()
    [0, 0, 32768, 65535, 65535]
    """
    share = (np.asarray(values, dtype=np.float64) - low) / (high - low) if high > low else np.zeros(np.shape(values))
    return np.rint(np.clip(share, 0, 1) * 65535).astype(np.uint16)
