"""What a network that refines maps is and how it is trained, as plain facts: no torch in here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from osml.errors import InvalidInputError

NetworkKind = Literal["unet", "brownian_bridge"]
NETWORK_KINDS: tuple[NetworkKind, ...] = ("unet", "brownian_bridge")


@dataclass(frozen=True)
class RefineRecipe:
    """Network, training and sampling of `unet` and `brownian_bridge`.

    width : channels of the U-Net at full resolution; doubled at each lower level, to four times at most
    levels : resolutions
    steps : training steps; they and nothing else decide the length of training
    batch, crop : crops per step, and cells along each; half of the eight flips and turns apply to each at random
    rate, weight_decay, clip : AdamW, cosine after a warm-up over a twentieth of the steps; largest norm of the gradient
    ema : memory of the averaged weights, which inference uses
    stain : standard deviation of the log factor of each colour's optical density, and four times that of its offset
    cross_entropy : λ, the weight of the cross-entropy of x̂0 beside the transition loss; of the bridge only
    scale : s of the bridge's variance 2s(m - m²); s = 1, as published, drowns maps whose values lie in 0..1
    path : steps of sampling
    eta : stochasticity of sampling: 0 deterministic, 1 the posterior
    published : the bridge is trained and sampled as published, for comparison; see `refine_train` and
        `refine_network.walk` for what is done otherwise, and why
    """

    width: int = 32
    levels: int = 4
    steps: int = 1500
    batch: int = 16
    crop: int = 32
    rate: float = 3e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    ema: float = 0.995
    stain: float = 0.1
    cross_entropy: float = 1.0
    scale: float = 0.1
    path: int = 20
    eta: float = 0.0
    published: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "levels", "steps", "batch", "crop", "path"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("rate", "clip", "scale"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "stain", "cross_entropy"):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("ema", "eta"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if self.crop % self.factor:
            raise InvalidInputError(f"crop {self.crop} is no multiple of {self.factor}, as {self.levels} levels need")

    @property
    def factor(self) -> int:
        """Sides of maps inside the network are multiples of this."""
        return 2 ** (self.levels - 1)


def recipe_facts(recipe: RefineRecipe) -> dict[str, Any]:
    """The recipe for JSON; `RefineRecipe(**facts)` is it again."""
    return asdict(recipe)
