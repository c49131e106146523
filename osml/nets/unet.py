"""A small U-Net for maps of tissue classes, and the exponential average of its weights.

Every layer is local: its normalisation looks at the channels of one cell, never across the map. So an output depends on
the cells around it alone, and windows of any size agree where they overlap by more than that reach.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from osml.errors import InvalidInputError

TIME_WIDTH = 16
_Layer = TypeVar("_Layer", bound=nn.Module)


class CellNorm(nn.Module):
    """Layer normalisation over the channels of each cell, with learned gains and offsets."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w), as it came in."""
        last = x.permute(0, 2, 3, 1)  # without a copy where channels come last in memory
        return functional.layer_norm(last, self.gain.shape, self.gain, self.bias, 1e-5).permute(0, 3, 1, 2)


class CellLinear(nn.Linear):
    """A linear layer on the channels of each cell: a 1x1 convolution, on processors faster than torch's own."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, h, w) to (n, outside, h, w)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the second starts at zero, so that a new block passes its input on."""

    def __init__(self, inside: int, outside: int, timed: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = CellNorm(inside), CellNorm(outside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.time = _silent(nn.Linear(TIME_WIDTH, 2 * outside)) if timed else None
        self.shortcut = CellLinear(inside, outside) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        """(n, inside, h, w) to (n, outside, h, w)."""
        inner = self.norm2(self.conv1(functional.silu(self.norm1(x))))
        if self.time is not None and time is not None:
            scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
            inner = torch.addcmul(shift, inner, 1.0 + scale)
        return self.shortcut(x) + self.conv2(functional.silu(inner))


class UNet(nn.Module):
    """Class logits from a condition (coarse map and picture) and, with `timed`, a state x_t and its share m.

    Parameters
    ----------
    classes : C
    condition : channels of the condition
    width : channels at full resolution; they double at each lower level, to four times at most
    levels : resolutions; the coarsest is 2^(levels - 1) times smaller
    timed : whether a state and a time enter
    """

    def __init__(self, classes: int, condition: int, *, width: int, levels: int, timed: bool) -> None:
        super().__init__()
        if width < 1 or levels < 1:
            raise InvalidInputError(f"a U-Net of width {width} with {levels} levels", do="Both must be 1 or more.")
        self.factor = 2 ** (levels - 1)
        widths = [width * min(4, 2**k) for k in range(levels)]
        self.condition = nn.Sequential(
            nn.Conv2d(condition, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.state = _silent(nn.Conv2d(classes, width, 3, padding=1)) if timed else None
        self.down = nn.ModuleList(Block(w, w, timed) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(CellLinear(b, a) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Block(2 * w, w, timed) for w in widths[:-1])
        self.middle = Block(widths[-1], widths[-1], timed)
        self.norm = CellNorm(width)
        self.out = CellLinear(width, classes)

    def look(self, condition: Tensor) -> Tensor:
        """Features of the condition (n, condition, h, w), which do not change along a path and are computed once."""
        return self.condition(condition)

    def forward(self, seen: Tensor, prior: Tensor, state: Tensor | None = None, m: Tensor | None = None) -> Tensor:
        """Logits (n, C, h, w): the prior's, and what the network adds to them.

        Parameters
        ----------
        seen : what `look` gave; h and w are multiples of `factor`
        prior : logits (n, C, h, w)
        state : x_t (n, C, h, w); timed networks only
        m : share of the coarse map, (n,)
        """
        time = None
        x = seen
        if self.state is not None and state is not None and m is not None:
            x = seen + self.state(state)
            time = wave(m)
        kept: list[Tensor] = []
        for k, block in enumerate(self.down):
            x = block(x, time)
            if k < len(self.shrink):
                kept.append(x)
                x = self.shrink[k](x)
        x = self.middle(x, time)
        for k in reversed(range(len(self.up))):
            x = functional.interpolate(self.grow[k](x), scale_factor=2.0, mode="nearest")
            x = self.up[k](torch.cat([kept[k], x], dim=1), time)
        return prior + self.out(functional.silu(self.norm(x)))


def _silent(layer: _Layer) -> _Layer:
    """A layer that starts at zero: a new timed network is the one that answers in one step."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


def wave(m: Tensor) -> Tensor:
    """Sines and cosines of a share m in 0..1, (n, 16), at rates from 1 to 100 radians.

    They are few and small on purpose: Adam moves every weight by about its rate, so what many large inputs feed moves
    far in a step, and the scales and shifts that hang on m then shake the whole network.
    """
    rates = torch.exp(torch.linspace(0.0, math.log(100.0), TIME_WIDTH // 2, device=m.device))
    angles = m.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1) / 8.0
