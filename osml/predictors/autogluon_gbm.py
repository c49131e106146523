"""AutoGluon's boosted trees with a number of rounds that no held-out row chose.

Importing this module imports AutoGluon. Its class is named in AutoGluon's files, so it must not move.
"""

from __future__ import annotations

from typing import Any

from autogluon.tabular.models import LGBModel


class FixedRounds(LGBModel):
    """LightGBM that is not shown the rows that are held out of its bag: they score it, and so must not stop it."""

    def _fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, **kwargs: Any) -> Any:
        return super()._fit(X=X, y=y, X_val=None, y_val=None, **kwargs)
