import numpy as np
import pytest
from numpy.testing import assert_allclose
from stats_reference import birthwt, lung, result, simulated, table

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox import fit_cox
from osml.stats.logistic import fit_logistic, wald_test
from osml.stats.select import select_backward, select_univariable

BIRTHWT = [[0], [1], [2, 3], [4], [5], [6], [7]]


def elimination_design():
    X, d = simulated()
    level = np.column_stack([d.x3 == k for k in (1, 2, 3)]).astype(float)
    return np.column_stack([X[:, :2], level, X[:, 3:]]), d, [[0], [1], [2, 3, 4], [5], [6], [7]]


def test_univariable_entry_equals_the_reference():
    expected = result("c5_univariate_multivariable_birthwt")
    X, y = birthwt()
    X = np.column_stack([X, table("birthwt").ftv])
    found = select_univariable([*BIRTHWT, [8]], X, y, p_enter=0.1)
    names = [row["var"] for row in expected["univariate"]]
    assert [names[k] for k in found.kept] == expected["kept_lrt_p_lt_0.1"]
    assert_allclose(found.p_values, [row["lrt_p"] for row in expected["univariate"]], rtol=1e-10)
    assert found.columns == tuple(range(8))


def test_univariable_wald_and_cox():
    X, time, event = lung()
    found = select_univariable([[0, 1], [2], [3]], X, (time, event), 0.01, test="wald")
    assert found.tests[0].df == 2
    assert found.p_values[1] == pytest.approx(wald_test(fit_cox(X[:, [2]], time, event), [0]).p_value, rel=1e-12)
    assert found.kept == tuple(np.flatnonzero(found.p_values < 0.01))


@pytest.mark.parametrize("case", range(16))
def test_backward_equals_fastbw(case):
    expected = result("fitting")["elimination"][case]
    X, d, groups = elimination_design()
    fit = fit_logistic(X, d.y) if expected["model"] == "logistic" else fit_cox(X, d.time, d.event)
    found = select_backward(groups, fit, rule=expected["rule"], p_stay=expected["sls"], stop_on=expected["type"])
    assert [f"x{k + 1}" for k in found.kept] == expected["kept"]
    assert [f"x{step.group + 1}" for step in found.removed] == expected["removed"]
    assert_allclose([step.test.statistic for step in found.removed], expected["chisq"], rtol=1e-9)
    assert_allclose([step.residual.statistic for step in found.removed], expected["residual"], rtol=1e-9)
    assert_allclose([step.aic for step in found.removed], expected["aic"], rtol=1e-9)
    assert found.columns == tuple(j for k in found.kept for j in groups[k])


def test_backward_model_of_validate():
    X, y = birthwt()
    found = select_backward(BIRTHWT, fit_logistic(X, y), rule="p", p_stay=0.1)
    lp = X[:, found.columns] @ fit_logistic(X[:, found.columns], y).coef
    dxy = np.sign(lp[y == 1][:, None] - lp[y == 0]).mean()
    assert dxy == pytest.approx(result("c1_validate_lrm_birthwt")["validate_boot_bw_p0.1"]["table"][0][0], rel=1e-12)


@pytest.mark.full
def test_backward_bootstrap_optimism_is_that_of_validate():
    # 200 saved resamples against R's 200: the mean trained Dxy differs by less than 4 of its standard errors.
    X, y = birthwt()
    trained = []
    for rows in table("birthwt_boot_indices_1based").to_numpy() - 1:
        w = np.bincount(rows, minlength=189).astype(float)
        chosen = select_backward(BIRTHWT, fit_logistic(X, y, weights=w), rule="p", p_stay=0.1).columns
        lp = X[:, chosen] @ fit_logistic(X[:, chosen], y, weights=w).coef
        pairs = np.outer(w[y == 1], w[y == 0])
        trained.append(np.sum(pairs * np.sign(lp[y == 1][:, None] - lp[y == 0])) / pairs.sum())
    expected = result("c1_validate_lrm_birthwt")["validate_boot_bw_p0.1"]["table"][0][1]
    assert abs(np.mean(trained) - expected) < 4 * np.std(trained) * np.sqrt(2 / len(trained))


def test_columns_outside_the_groups_stay():
    X, y = birthwt()
    found = select_backward([[0], [7]], fit_logistic(X, y), rule="p", p_stay=1e-6)
    assert found.columns == (1, 2, 3, 4, 5, 6)
    assert found.kept == ()


def test_weights_equal_repeated_rows():
    X, y = birthwt()
    w = np.arange(189) % 3
    a = select_univariable(BIRTHWT, X, y, weights=w)
    b = select_univariable(BIRTHWT, np.repeat(X, w, axis=0), np.repeat(y, w))
    assert_allclose(a.p_values, b.p_values, rtol=1e-9)


def test_refusals():
    X, y = birthwt()
    fit = fit_logistic(X, y)
    for groups in ([[0], [0]], [[]], [[8]], [[-1]]):
        with pytest.raises(InvalidInputError, match="groups"):
            select_backward(groups, fit)
    with pytest.raises(InvalidInputError, match="p_enter"):
        select_univariable(BIRTHWT, X, y, 0.0)
    with pytest.raises(InvalidInputError, match="rule"):
        select_backward(BIRTHWT, fit, rule="bic")
    with pytest.raises(NotEstimableError, match="ridge"):
        select_backward(BIRTHWT, fit_logistic(X, y, ridge=1.0))
    separated = X.copy()
    separated[:, 4] = y
    with pytest.raises(NotEstimableError, match=r"term 3: .*separated"):
        select_univariable(BIRTHWT, separated, y)
