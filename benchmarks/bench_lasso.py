"""Seconds for a cross-validated lasso of radiomics size, beside scikit-learn on the same penalties and folds.

    OMP_NUM_THREADS=1 python benchmarks/bench_lasso.py [--patients 75] [--columns 1316]

scikit-learn's binomial solver (saga) is run at the tolerance at which its support settles, its gaussian one at 1e-6.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, lasso_path

from osml.stats.lasso_cv import lasso_cv


def data(n: int, p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Correlated columns (40 factors), a number and a binary outcome that depend on five of them, five folds."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 40)) @ rng.normal(size=(40, p)) + 0.7 * rng.normal(size=(n, p))
    lp = X[:, :5].sum(axis=1) / 10
    return X, lp + rng.normal(size=n), (rng.random(n) < 1 / (1 + np.exp(-lp))).astype(float), np.arange(n) % 5


def peer_gaussian(X: np.ndarray, y: np.ndarray, fold: np.ndarray, lambdas: np.ndarray) -> None:
    for k in range(-1, 5):
        train = fold != k
        Z = (X[train] - X[train].mean(axis=0)) / X[train].std(axis=0)
        lasso_path(Z, y[train] - y[train].mean(), alphas=lambdas, tol=1e-6, max_iter=100_000)


def peer_binomial(X: np.ndarray, y: np.ndarray, fold: np.ndarray, lambdas: np.ndarray) -> None:
    for k in range(-1, 5):
        train = fold != k
        Z = (X[train] - X[train].mean(axis=0)) / X[train].std(axis=0)
        model = LogisticRegression(l1_ratio=1.0, solver="saga", tol=1e-4, max_iter=1000, warm_start=True)
        for lam in lambdas:
            model.set_params(C=1 / (train.sum() * lam)).fit(Z, y[train])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=75)
    parser.add_argument("--columns", type=int, default=1316)
    parser.add_argument("--lambdas", type=int, default=100)
    arguments = parser.parse_args()
    X, number, binary, fold = data(arguments.patients, arguments.columns)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{arguments.patients} x {arguments.columns}, {arguments.lambdas} lambdas, path + 5-fold cross-validation")
    for family, y, peer in (("gaussian", number, peer_gaussian), ("binomial", binary, peer_binomial)):
        start = time.perf_counter()
        cv = lasso_cv(X, y, fold, family, n_lambdas=arguments.lambdas)
        own = time.perf_counter() - start
        start = time.perf_counter()
        peer(X, y, fold, cv.path.lambdas)
        other = time.perf_counter() - start
        print(f"{family:9} osml {own:6.2f} s   scikit-learn {other:7.2f} s   ratio {other / own:6.1f}")


if __name__ == "__main__":
    main()
