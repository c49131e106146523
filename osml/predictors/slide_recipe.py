"""What a slide predictor is told: slides, classes of tissue, tiles, encoder, refiner; plain facts, no torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from osml.errors import InvalidInputError
from osml.evaluation.necrosis import TumourBed
from osml.imaging.slides_classes import SlideClass, check_classes
from osml.nets.refine_recipe import RefineRecipe

if TYPE_CHECKING:
    from osml.nets.encoders import EncoderSettings

Refine = Literal["none", "majority", "unet", "brownian_bridge", "best"]
REFINE: tuple[Refine, ...] = ("none", "majority", "unet", "brownian_bridge", "best")
# Cells of a map along a tile: borders between tissues can be placed within a tile, and a region of 8 x 8 tiles is a map
# of 64 x 64 cells, as in Nguyen et al. 2025.
CELLS = 8
_REFINER = RefineRecipe()
# Of the default encoder, frozen: middle layers, whose maps tell textures apart, at the tile's own pixels.
DEFAULT_LAYERS, DEFAULT_SIZE, DEFAULT_STAIN = ("blocks.3", "blocks.4"), 256, 1


@dataclass(frozen=True)
class SlideCase:
    """One slide.

    slide : its name in tables and messages
    annotation : QuPath's GeoJSON, or a picture in the classes' colours; None: nobody drew on it
    mpp : µm per pixel of level 0 instead of the file's own
    """

    slide: str
    patient: str
    path: Path
    annotation: Path | None = None
    mpp: float | None = None


@dataclass(frozen=True)
class SlideEncoder:
    """How tiles become vectors.

    model, weights, size, layers : see `osml.nets.encoders.EncoderSettings`. The default encoder, frozen, uses the maps
        of `blocks.3` and `blocks.4` at 256 px unless `layers` are given; () is the model's own vector
    tune : frozen: vectors are computed once per slide and kept; lora, full: trained with the head, on a GPU
    rank, alpha : of lora; alpha None: the rank
    stain : frozen: copies of every annotated tile with other strengths of its stains, which training draws from; each
        costs a pass of the encoder over the annotated slides. None: 1 for the default encoder, else 0
    """

    model: str = "default"
    weights: str | None = None
    tune: Literal["frozen", "lora", "full"] = "frozen"
    rank: int = 16
    alpha: float | None = None
    size: int | None = None
    layers: tuple[str, ...] | None = None
    stain: int | None = None

    def settings(self) -> EncoderSettings:
        """For `build_encoder`."""
        from osml.nets.encoders import EncoderSettings

        textures = self._textures
        layers = DEFAULT_LAYERS if textures else (self.layers or ())
        return EncoderSettings(
            self.model, self.weights, self.tune, DEFAULT_SIZE if textures and self.size is None else self.size,
            lora_rank=self.rank, layers=layers, lora_alpha=self.alpha,
        )  # fmt: skip

    @property
    def copies(self) -> int:
        """Stained copies of an annotated tile."""
        if self.tune != "frozen":
            return 0
        return (DEFAULT_STAIN if self._textures else 0) if self.stain is None else self.stain

    @property
    def _textures(self) -> bool:
        return self.model == "default" and self.tune == "frozen" and self.layers is None


@dataclass(frozen=True)
class HeadRecipe:
    """Training of the patch classifier: vector, 512 units, classes.

    hidden, dropout : of the head
    epochs : at most; how many is chosen on inner patients, the same number for all inner folds and the final head
    patience : epochs without a lower loss of the inner patients after which it is not looked further
    batch, rate, weight_decay : AdamW; `encoder_rate` of what is trained of the encoder
    balance : 0 no class weights, 1 as if classes were equally frequent; weights are frequency^-balance, within a
        factor of 5 of each other's mean
    """

    hidden: int = 512
    dropout: float = 0.2
    epochs: int = 40
    patience: int = 6
    batch: int = 128
    rate: float = 1e-3
    encoder_rate: float = 1e-4
    weight_decay: float = 1e-2
    balance: float = 0.5


@dataclass(frozen=True)
class SlideRecipe:
    """What is fitted.

    classes : of tissue; the first is the background (glass)
    viable, necrotic : names of the classes that make the necrosis rate; both empty: there is none
    size_um, stride_um : side of a tile and the way to the next one; overlapping tiles are blended
    min_tissue : share of a tile that must be tissue for the encoder to look at it; the rest is background
    mpp : µm per pixel at which tiles are read
    refine : best: the refiner that wins on inner patients
    inner_folds : groups of training patients on which all choices are made; fewer where there are fewer patients
    refiner, head : how networks are trained
    """

    classes: tuple[SlideClass, ...]
    viable: tuple[str, ...] = ()
    necrotic: tuple[str, ...] = ()
    size_um: float = 128.0
    stride_um: float = 128.0
    encoder: SlideEncoder = SlideEncoder()
    refine: Refine = "best"
    inner_folds: int = 3
    min_tissue: float = 0.1
    mpp: float = 0.5
    refiner: RefineRecipe = _REFINER
    head: HeadRecipe = HeadRecipe()

    def __post_init__(self) -> None:
        check_classes(self.classes)
        if len(self.classes) < 2:
            raise InvalidInputError("one class of tissue; the background and one or more others are expected")
        unknown = sorted({*self.viable, *self.necrotic} - set(self.names[1:]))
        if unknown:
            raise InvalidInputError(
                f"the necrosis rate counts {', '.join(unknown)}; classes of tissue are {', '.join(self.names[1:])}",
                why="The first class is the background and belongs to no tumour bed.",
            )
        if bool(self.viable) != bool(self.necrotic):
            raise InvalidInputError("the necrosis rate needs viable and necrotic classes, or neither")
        if self.refine not in REFINE:
            raise InvalidInputError(f"refine {self.refine!r}", do=f"Use one of {', '.join(REFINE)}.")
        if not 0 <= self.min_tissue <= 1 or self.inner_folds < 2:
            raise InvalidInputError(
                f"min_tissue {self.min_tissue:g}, {self.inner_folds} inner folds; 0 to 1, and 2 or more are expected"
            )
        step = self.stride_px * CELLS / self.size_px
        if self.size_px < CELLS or not 0 < self.stride_px <= self.size_px or step != int(step):
            raise InvalidInputError(
                f"tiles of {self.size_um:g} µm every {self.stride_um:g} µm",
                why=f"A tile is {CELLS} cells of the map wide, and tiles begin at cells.",
                do=f"Choose a stride that is a multiple of {self.size_um / CELLS:g} µm, at most the size of a tile.",
            )
        assert self.bed is None or self.bed.counted

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, in order."""
        return tuple(kind.name for kind in self.classes)

    @property
    def bed(self) -> TumourBed | None:
        """Which classes make the necrosis rate, by position."""
        if not self.viable:
            return None
        return TumourBed(*(tuple(self.names.index(n) for n in side) for side in (self.viable, self.necrotic)))

    @property
    def size_px(self) -> int:
        """Side of a tile in its own pixels."""
        return round(self.size_um / self.mpp)

    @property
    def stride_px(self) -> int:
        """From one tile to the next."""
        return round(self.stride_um / self.mpp)

    @property
    def cell_um(self) -> float:
        """Side of a cell of the maps."""
        return self.size_um / CELLS


def recipe_facts(recipe: SlideRecipe) -> dict[str, Any]:
    """For JSON. A file of weights is known by its hash elsewhere, so its path is left out."""
    facts = asdict(recipe)
    facts["encoder"]["weights"] = None
    return facts


def recipe_of(facts: Mapping[str, Any]) -> SlideRecipe:
    """What `recipe_facts` wrote."""
    encoder = dict(facts["encoder"])
    if encoder["layers"] is not None:
        encoder["layers"] = tuple(encoder["layers"])
    made: dict[str, Any] = {
        "classes": tuple(SlideClass(c["name"], tuple(c["colour"]), c["label"]) for c in facts["classes"]),
        "viable": tuple(facts["viable"]), "necrotic": tuple(facts["necrotic"]), "encoder": SlideEncoder(**encoder),
        "refiner": RefineRecipe(**facts["refiner"]), "head": HeadRecipe(**facts["head"]),
    }  # fmt: skip
    return SlideRecipe(**{**facts, **made})
