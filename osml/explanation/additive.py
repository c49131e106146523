"""Exact SHAP values of additive models: each input's own terms, measured from their mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.explanation.values import Shap
from osml.stats.inputs import vector
from osml.stats.terms import LinearModel, Values


def additive_shap(model: LinearModel, values: Values, means: ArrayLike) -> Shap:
    """Contributions of every input of a logistic or Cox model, exact for independent and dependent inputs alike.

    The contribution of an input is its terms at the patient's value minus their mean over the background (Lundberg and
    Lee 2017, corollary 1); splines and levels of one input count together.

    Parameters
    ----------
    model : LinearModel
        Each term of one input only: an interaction has no exact share and is refused.
    values : input → float array (n,)
        Without gaps.
    means : float array (columns,)
        Mean of each design column over the background patients (the training patients).

    Returns
    -------
    Shap
        On the scale of the linear predictor; `base` is the linear predictor of the mean design row.

    Examples
    --------
    >>> from osml.stats.terms import Linear
    >>> model = LinearModel((Linear("age"), Linear("size")), np.array([0.1, 2.0]), -1.0)
    >>> shap = additive_shap(model, {"age": np.array([60.0]), "size": np.array([1.0])}, [50.0, 1.5])
    >>> shap.base, shap.values.tolist()
    (7.0, [[1.0, -1.0]])
    """
    centre = vector(means, "means")
    if len(centre) != len(model.coef):
        raise InvalidInputError(f"means has {len(centre)} entries for {len(model.coef)} design columns")
    joint = [" × ".join(term.inputs) for term in model.terms if len(term.inputs) > 1]
    if joint:
        raise NotEstimableError(
            f"the term {joint[0]} belongs to two inputs: no exact contribution of one of them exists",
            do="Use permutation_shap.",
        )
    if not model.terms:
        n = len(next(iter(values.values()), np.empty(0)))
        return Shap((), model.intercept, np.empty((n, 0)), np.full(n, model.intercept), 0, np.empty((n, 0)))
    inputs = tuple(dict.fromkeys(term.inputs[0] for term in model.terms))
    base, start = float(model.intercept), 0
    parts: dict[str, NDArray[np.float64]] = {}
    for term in model.terms:
        stop = start + len(term.columns)
        coef, mean = model.coef[start:stop], centre[start:stop]
        own = (term.basis(values) - mean) @ coef
        name = term.inputs[0]
        parts[name] = parts[name] + own if name in parts else own
        base += float(mean @ coef)
        start = stop
    contributions = np.column_stack([parts[name] for name in inputs])
    return Shap(inputs, base, contributions, model.lp(values), 0, np.zeros_like(contributions))
