"""AutoGluon's boosted trees as osml lets them be fitted and kept.

Importing this module imports AutoGluon. Its classes are named in AutoGluon's files, so they must not move.
"""

from __future__ import annotations

from typing import Any

from autogluon.tabular.models import LGBModel

from osml.predictors.boosting_trees import model_text, read_model


class Sealed(LGBModel):
    """LightGBM without the smallest and largest value of each column, which it would keep: single patients' values."""

    model: Any

    def _fit(self, X: Any, y: Any, **kwargs: Any) -> Any:
        found = super()._fit(X=X, y=y, **kwargs)
        self.model = read_model(model_text(self.model))  # AutoGluon has cut it to its best round already
        return found


class FixedRounds(Sealed):
    """The same, not shown the rows that are held out of its bag: they score it, and so must not stop it."""

    def _fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, **kwargs: Any) -> Any:
        return super()._fit(X=X, y=y, X_val=None, y_val=None, **kwargs)
