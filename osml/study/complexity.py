"""How complex a predictor is, for the choice among candidates: the simpler one is taken where two are equally good."""

from __future__ import annotations

from osml.schema.model import NomogramPredictor, Schema

RANKS = ("nomogram", "penalised", "boosted", "network", "stack")
ORDER = " < ".join(RANKS)
# A regression that is not penalised is ranked below; a forest is an ensemble of trees, whatever feeds it. AutoGluon
# weighs many bagged models into one.
OF_KIND = {
    "nomogram": "nomogram", "radscore": "penalised", "boosting": "boosted", "autogluon": "stack",
    "network": "network", "slide": "network", "stack": "stack",
}  # fmt: skip


def complexity(schema: Schema, name: str) -> str:
    """One of `RANKS`: that of the predictor itself or of the most complex one that feeds it.

    A regression that selects or shrinks by a penalty, or takes the score of another predictor, counts as penalised.
    """
    block = schema.predictors[name]
    fed = [item for item in block.inputs if item in schema.predictors]
    own = OF_KIND[block.kind]
    if isinstance(block, NomogramPredictor) and (fed or block.select == "lasso" or block.shrink == "ridge"):
        own = "penalised"
    if getattr(block, "score", "") == "forest":
        own = "boosted"
    return max([own, *(complexity(schema, item) for item in fed)], key=RANKS.index)
