"""SHAP values: exact for additive models, by coalitions of inputs for any other; and their figures."""

from osml.explanation.additive import additive_shap
from osml.explanation.permutation import permutation_shap, subset_shap
from osml.explanation.values import Shap

__all__ = ["Shap", "additive_shap", "permutation_shap", "subset_shap"]
