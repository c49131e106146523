import numpy as np
import pytest

from osml.errors import InvalidInputError
from osml.evaluation.discrimination import auc, brier, log_loss
from osml.evaluation.multiclass import multiclass, reduce_by_patient

NAMES = ("a", "b", "c")


def simulated(n=60, k=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    z = rng.normal(size=(n, k)) + 1.2 * np.eye(k)[y]
    return y, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def test_by_hand():
    p = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.2, 0.3], [0.1, 0.2, 0.7]]
    found = multiclass([0, 1, 2, 2], p, NAMES)
    assert found.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert found.precision.tolist() == [0.5, 1.0, 1.0]
    assert found.recall.tolist() == [1.0, 1.0, 0.5]
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert found.weighted_f1 == pytest.approx((2 / 3 + 1 + 2 * 2 / 3) / 4)
    assert found.balanced_accuracy == pytest.approx(2.5 / 3)
    assert found.brier == pytest.approx((0.26 + 0.38 + 0.78 + 0.14) / 4)
    assert found.absent == ()


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_agrees(seed):
    from sklearn import metrics

    y, p = simulated(seed=seed)
    found, guess = multiclass(y, p, NAMES), p.argmax(axis=1)
    for average in ("macro", "weighted"):
        scores = metrics.precision_recall_fscore_support(y, guess, average=average, zero_division=0)[:3]
        mine = [getattr(found, f"{average}_{what}") for what in ("precision", "recall", "f1")]
        assert mine == pytest.approx(scores, rel=1e-12)
        area = metrics.roc_auc_score(y, p, multi_class="ovr", average=average)
        assert getattr(found, f"{average}_auc") == pytest.approx(area, rel=1e-12)
    assert found.log_loss == pytest.approx(metrics.log_loss(y, p), rel=1e-10)
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(y, guess))
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, guess), rel=1e-12)


def test_two_classes_reduce_to_the_binary_measures():
    y, p = simulated(k=2, seed=5)
    found = multiclass(y, p, ("no", "yes"))
    assert found.macro_auc == pytest.approx(auc(y, p[:, 1]), rel=1e-12)
    assert found.log_loss == pytest.approx(log_loss(y, p[:, 1]), rel=1e-12)
    assert found.brier == pytest.approx(2 * brier(y, p[:, 1]), rel=1e-12)


def test_order_of_classes_does_not_matter():
    y, p = simulated(seed=7)
    turn = np.array([2, 0, 1])
    found, turned = multiclass(y, p, NAMES), multiclass(np.argsort(turn)[y], p[:, turn], [NAMES[k] for k in turn])
    np.testing.assert_allclose(turned.f1, found.f1[turn], rtol=1e-12)
    assert turned.weighted_auc == pytest.approx(found.weighted_auc, rel=1e-12)


def test_absent_class_is_reported_and_left_out():
    p = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]
    found = multiclass([0, 1, 1], p, NAMES)
    assert found.absent == ("c",)
    assert np.isnan(found.auc[2])
    assert np.isnan(found.recall[2])
    assert found.macro_auc is None
    assert found.weighted_auc is None
    assert found.macro_recall == pytest.approx((1 + 0.5) / 2)
    only = multiclass([0, 0, 0], p, NAMES)
    assert np.isnan(only.auc).all()
    assert only.macro_auc is None


def test_never_predicted_class_has_precision_zero():
    found = multiclass([0, 1], [[0.9, 0.1], [0.8, 0.2]], ("a", "b"))
    assert found.precision.tolist() == [0.5, 0.0]
    assert found.f1[1] == 0.0


def test_reduction_per_patient():
    _, p = simulated(n=12, seed=3)
    patient = np.repeat(["p3", "p1", "p2"], 4)
    first, mean, label = reduce_by_patient(patient, p, np.repeat([2, 0, 1], 4))
    assert patient[first].tolist() == ["p3", "p1", "p2"]
    np.testing.assert_allclose(mean, p.reshape(3, 4, 3).mean(axis=1), rtol=1e-12)
    assert label.tolist() == [2, 0, 1]
    shuffle = np.random.default_rng(0).permutation(12)
    _, other, _ = reduce_by_patient(patient[shuffle], p[shuffle])
    np.testing.assert_allclose(np.sort(other, axis=0), np.sort(mean, axis=0), rtol=1e-12)
    assert multiclass(label, mean, NAMES).n == 3


def test_patient_with_two_labels_is_refused():
    with pytest.raises(InvalidInputError, match="different labels"):
        reduce_by_patient(["p", "p"], [[0.5, 0.5], [0.5, 0.5]], [0, 1])


@pytest.mark.parametrize(
    ("y", "p", "what"),
    [
        ([0, 1], [[0.5, 0.6], [0.5, 0.5]], "sum to 1"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "positions"),
        ([0, np.nan], [[0.5, 0.5], [0.5, 0.5]], "missing"),
        (["a", "b"], [[0.5, 0.5], [0.5, 0.5]], "positions"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "missing"),
        ([0, 1], [[0.5, 0.5]], "entries"),
        ([0, 1], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]], "shape"),
    ],
)
def test_bad_input_is_refused(y, p, what):
    with pytest.raises(InvalidInputError, match=what):
        multiclass(y, p, ("a", "b"))
