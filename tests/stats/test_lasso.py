import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from stats_reference import result, table

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.lasso import lasso_path
from osml.stats.lasso_cv import lasso_cv


def sonar():
    d = table("sonar")
    return d[[f"V{k}" for k in range(1, 61)]].to_numpy(), (d.Class == "M").to_numpy()


def oriented():
    """Sonar with the class that the reference codes as 1."""
    X, y = sonar()
    first = np.array(result("e1_glmnet_sonar")["coef"])[0, 0]
    return (X, y) if lasso_path(X, y, "binomial", [0.2]).intercepts[0] * first > 0 else (X, ~y)


def violation(X, y, path, weights=None):
    """Largest breach of the optimality conditions along the path, relative to lambda."""
    w = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    mean = w @ X
    sd = np.sqrt(w @ (X - mean) ** 2)
    worst = 0.0
    for lam, b0, coef in zip(path.lambdas, path.intercepts, path.coefs, strict=True):
        eta = b0 + X @ coef
        residual = w * (y - (eta if path.family == "gaussian" else 1 / (1 + np.exp(-eta))))
        slope = np.divide((X - mean).T @ residual, sd, out=np.zeros_like(sd), where=sd > 1e-12)
        breach = np.where(coef != 0, np.abs(slope - lam * np.sign(coef)), np.maximum(np.abs(slope) - lam, 0))
        worst = max(worst, breach.max() / lam, abs(residual.sum()) / lam)
    return worst


def test_path_equals_glmnet():
    expected = result("e1_glmnet_sonar")
    X, y = oriented()
    path = lasso_path(X, y, "binomial", lambdas=expected["lambda"])
    coefs = np.array(expected["coef"])
    assert_allclose(path.coefs.T, coefs[1:], rtol=1e-5, atol=1e-4)
    assert_allclose(path.intercepts, coefs[0], rtol=1e-5, atol=1e-4)
    assert np.array_equal(path.coefs.T != 0, coefs[1:] != 0)
    assert path.df.tolist() == expected["df"]
    assert_allclose(path.deviance_ratio, expected["dev_ratio"], rtol=1e-6)
    assert path.null_deviance == pytest.approx(expected["nulldev"], rel=1e-12)
    assert path.lambda_max == pytest.approx(expected["lambda_max_auto"], rel=1e-12)
    assert_allclose(lasso_path(X, y, "binomial").lambdas, expected["auto_lambda"], rtol=1e-12)


@pytest.mark.parametrize(("measure", "key", "rtol"), [("deviance", "cv", 1e-5), ("auc", "cv_auc", 1e-12)])
def test_cross_validation_equals_cv_glmnet(measure, key, rtol):
    reference = result("e1_glmnet_sonar")
    expected = reference[key]
    cv = lasso_cv(*oriented(), reference["foldid_1based"], "binomial", reference["lambda"], measure=measure)
    assert_allclose(cv.mean, expected["cvm"], rtol=rtol)
    assert_allclose(cv.se, expected["cvsd"], rtol=rtol)
    assert cv.lambda_min == pytest.approx(expected["lambda_min"], rel=1e-12)
    assert cv.lambda_1se == pytest.approx(expected["lambda_1se"], rel=1e-12)
    intercept, coef = cv.coefficients("1se")
    assert np.count_nonzero(coef) == reference["df"][cv.index_1se]
    assert intercept == cv.path.intercepts[cv.index_1se]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(6, 60),
    p=st.integers(1, 120),
    kind=st.sampled_from(["plain", "duplicates", "low rank", "binary"]),
    family=st.sampled_from(["gaussian", "binomial"]),
)
def test_optimality_conditions_hold_everywhere(seed, n, p, kind, family):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    if kind == "duplicates":
        X = np.hstack([X, X[:, : p // 2 + 1], 2 * X[:, :1] + 1, np.ones((n, 1))])
    if kind == "low rank":
        X = rng.normal(size=(n, 2)) @ rng.normal(size=(2, p)) + 1e-3 * X
    if kind == "binary":
        X = (X > 0.8).astype(float)
        X[0], X[1] = 0.0, 1.0
    y = X[:, 0] + 0.5 * rng.normal(size=n)
    if family == "binomial":
        y = (y > np.median(y)).astype(float)
    weights = rng.integers(1, 4, n)
    path = lasso_path(X, y, family, n_lambdas=25, weights=weights)
    assert violation(X, y, path, weights) < 1e-7
    assert np.all(np.diff(path.deviance) <= 1e-8 * path.null_deviance)


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_wide_data_and_a_single_small_penalty(family):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 500))
    y = X[:, 0] > 0 if family == "binomial" else X[:, 0]
    path = lasso_path(X, y, family, lambdas=[1e-3])
    assert violation(X, np.asarray(y, float), path) < 1e-7


def test_one_column_is_soft_thresholding():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=30), rng.normal(size=30)
    slope = np.mean((x - x.mean()) / x.std() * (y - y.mean()))
    path = lasso_path(x[:, None], y, lambdas=[abs(slope) * 1.1, abs(slope) * 0.4])
    assert path.lambda_max == pytest.approx(abs(slope), rel=1e-12)
    assert path.coefs[0, 0] == 0.0
    assert path.coefs[1, 0] == pytest.approx(np.sign(slope) * 0.6 * abs(slope) / x.std(), rel=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), family=st.sampled_from(["gaussian", "binomial"]))
def test_weights_equal_repeated_rows_and_units_do_not_matter(seed, family):
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
    w[:6] = 1
    y = (np.arange(40) % 2).astype(float) if family == "binomial" else rng.normal(size=40)
    a = lasso_path(X, y, family, n_lambdas=20, weights=w)
    b = lasso_path(np.repeat(X, w, axis=0), np.repeat(y, w), family, n_lambdas=20)
    c = lasso_path(X * 100 + 7, y, family, n_lambdas=20, weights=5.0 * w)
    assert_allclose(a.coefs, b.coefs, rtol=1e-5, atol=1e-7)
    assert_allclose(a.deviance, b.deviance, rtol=1e-9)
    assert_allclose(c.coefs * 100, a.coefs, rtol=1e-5, atol=1e-7)
    assert_allclose(c.deviance, 5 * a.deviance, rtol=1e-9)


def test_lp_is_that_of_the_coefficients():
    X, y = sonar()
    path = lasso_path(X, y, "binomial", n_lambdas=5)
    assert_allclose(path.lp(X[:3])[:, 4], path.intercepts[4] + X[:3] @ path.coefs[4], rtol=1e-14)


def test_standardisation_is_learnt_inside_the_fold():
    rng = np.random.default_rng(2)
    X, y, fold = rng.normal(size=(40, 5)), rng.normal(size=40), np.arange(40) % 4
    cv = lasso_cv(X, y, fold, n_lambdas=10)
    path = lasso_path(X[fold != 1], y[fold != 1], lambdas=cv.path.lambdas)
    held = np.mean((y[fold == 1, None] - path.lp(X[fold == 1])) ** 2, axis=0)
    changed = X.copy()
    changed[fold == 1] *= 1e3
    assert_allclose(lasso_path(changed[fold != 1], y[fold != 1], lambdas=cv.path.lambdas).coefs, path.coefs)
    others = [k for k in range(4) if k != 1]
    rest = 0.0
    for k in others:
        fit = lasso_path(X[fold != k], y[fold != k], lambdas=cv.path.lambdas)
        rest = rest + np.mean((y[fold == k, None] - fit.lp(X[fold == k])) ** 2, axis=0)
    assert_allclose(cv.mean, (held + rest) / 4, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"family": "poisson"}, InvalidInputError, "family"),
        ({"family": "binomial", "y": [1, 1, 1, 1]}, NotEstimableError, "4 events among 4"),
        ({"y": [2.0, 2, 2, 2]}, NotEstimableError, "constant"),
        ({"X": np.ones((4, 2))}, NotEstimableError, "no column"),
        ({"lambdas": [0.1, 0.2]}, InvalidInputError, "decreasing"),
        ({"lambdas": [0.1, 0.0]}, InvalidInputError, "above 0"),
        ({"n_lambdas": 0}, InvalidInputError, "n_lambdas"),
        ({"y": ["a", "b", "a", "b"]}, InvalidInputError, "strings"),
        ({"weights": [1, 1, 1]}, InvalidInputError, "weights"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    options = {"X": [[1.0], [2], [3], [5]], "y": [1, 0, 1, 0]} | arguments
    X, y = options.pop("X"), options.pop("y")
    with pytest.raises(error, match=message):
        lasso_path(X, y, **options)


def test_cross_validation_refusals():
    X, y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 2
    with pytest.raises(InvalidInputError, match="single fold"):
        lasso_cv(X, y, np.zeros(12), "binomial")
    with pytest.raises(InvalidInputError, match="measure"):
        lasso_cv(X, y, np.arange(12) % 3, "gaussian", measure="auc")
    with pytest.raises(NotEstimableError, match="no AUC"):
        lasso_cv(X, y, np.arange(12) % 4, "binomial", measure="auc")
    with pytest.raises(InvalidInputError, match="rule"):
        lasso_cv(X, y, np.arange(12) // 4, "binomial").coefficients("best")


@pytest.mark.full
def test_equals_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.linear_model import lasso_path as peer_path

    X, y = sonar()
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    path = lasso_path(Z, y.astype(float), lambdas=[0.1, 0.01])
    _, peer, _ = peer_path(Z, y - y.mean(), alphas=[0.1, 0.01], tol=1e-12, max_iter=100_000)
    assert_allclose(path.coefs, peer.T, rtol=1e-6, atol=1e-8)
    binary = lasso_path(Z, y, "binomial", lambdas=[0.05])
    saga = LogisticRegression(l1_ratio=1.0, solver="saga", C=1 / (208 * 0.05), tol=1e-9, max_iter=100_000).fit(Z, y)
    assert_allclose(binary.coefs[0], saga.coef_[0], rtol=1e-4, atol=1e-6)
