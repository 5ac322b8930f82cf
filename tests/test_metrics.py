"""Calibration error and risk-coverage curve: by hand, by slow references, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_cells.metrics import expected_calibration_error, risk_coverage_curve


def test_calibration_error_by_hand():
    # Bins of a half: 0.4 right once in two cells (|0.5 - 0.4|), 0.8 and 0.6 right once in two (|0.5 - 0.7|).
    y_proba = [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]]
    error = expected_calibration_error(["a", "c", "a", "b"], y_proba, n_bins=2)
    assert error == pytest.approx(0.5 * 0.1 + 0.5 * 0.2)


def test_calibration_error_agrees_with_a_slow_reference():
    rng = np.random.default_rng(0)
    y_proba = rng.dirichlet(np.ones(4), size=500)
    y_true = rng.integers(4, size=500)
    expected = 0
    for low in np.arange(10) / 10:
        inside = [i for i in range(500) if low <= y_proba[i].max() < low + 0.1]
        if inside:
            right = np.mean([y_proba[i].argmax() == y_true[i] for i in inside])
            expected += len(inside) / 500 * abs(right - np.mean([y_proba[i].max() for i in inside]))
    assert expected_calibration_error(y_true, y_proba, n_bins=10) == pytest.approx(expected)
    assert expected > 0.1


def test_calibration_error_is_small_for_labels_drawn_by_the_probabilities():
    rng = np.random.default_rng(0)
    y_proba = rng.dirichlet(np.ones(3), size=20_000)
    y_true = (y_proba.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert expected_calibration_error(y_true, y_proba) < 0.02
    too_sure = y_proba**4 / (y_proba**4).sum(axis=1, keepdims=True)
    assert expected_calibration_error(y_true, too_sure) > 0.1


def test_probability_of_one_is_in_the_last_bin():
    assert expected_calibration_error([0, 1], [[1.0, 0.0], [1.0, 0.0]]) == 0.5
    assert expected_calibration_error([0, 1], np.array([[1, 0], [0, 1]], dtype=np.float32)) == 0


def test_labels_name_the_columns_in_any_order():
    y_proba = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1]])
    expected = expected_calibration_error(["a", "b"], y_proba, labels=["a", "b", "c"])
    shuffled = expected_calibration_error(["a", "b"], y_proba[:, [2, 0, 1]], labels=["c", "a", "b"])
    categories = pd.Series(["a", "b"], dtype="category")
    assert expected == shuffled == expected_calibration_error(categories, y_proba, labels=["a", "b", "c"])
    assert expected == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("y_true", "y_proba", "options", "message"),
    [
        (["a", "b"], [[0.5, 0.5]], {}, "inconsistent numbers of samples"),
        (
            ["a", "b"],
            [[0.5, 0.3, 0.2]] * 2,
            {},
            "y_proba has 3 columns, but there are 2 classes: pass the class of each column as labels",
        ),
        (["a", "d"], [[0.5, 0.5]] * 2, {"labels": ["a", "b"]}, "classes ['d'] that are not in labels=['a', 'b']"),
        (["a", "b"], [[2.0, -1.0]] * 2, {}, "Expected probabilities from 0 to 1, got values from -1 to 2"),
        (["a", "b"], [[0.5, 0.5]] * 2, {"labels": [0, 1]}, "Mix of label input types"),
        (["a", "b"], [[0.5, 0.5]] * 2, {"n_bins": 0}, "'n_bins' parameter of expected_calibration_error"),
    ],
)
def test_calibration_error_refuses(y_true, y_proba, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        expected_calibration_error(y_true, y_proba, **options)


def test_risk_coverage_curve_by_hand():
    coverage, risk, thresholds = risk_coverage_curve([0, 0, 1, 1, 1], [0, 1, 1, 0, 1], [0.9, 0.5, 0.7, 0.5, 0.4])
    np.testing.assert_array_equal(thresholds, [0.4, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(coverage, [1, 0.8, 0.4, 0.2])
    np.testing.assert_allclose(risk, [0.4, 0.5, 0, 0])


def test_cells_of_equal_confidence_are_one_step():
    coverage, risk, thresholds = risk_coverage_curve(["a", "b"], ["a", "a"], [0.5, 0.5])
    assert (coverage.tolist(), risk.tolist(), thresholds.tolist()) == ([1], [0.5], [0.5])


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30))
def test_risk_and_coverage_are_those_of_the_kept_cells(cells):
    right, confidence = np.array(cells).T
    coverage, risk, thresholds = risk_coverage_curve(np.ones(len(cells)), right, confidence.astype(float))
    assert coverage[0] == 1
    assert (np.diff(coverage) < 0).all()
    assert (np.diff(thresholds) > 0).all()
    for i, threshold in enumerate(thresholds):
        kept = confidence >= threshold
        assert coverage[i] == pytest.approx(kept.mean())
        assert risk[i] == pytest.approx(1 - right[kept].mean())


@pytest.mark.parametrize(
    ("y_true", "y_pred", "confidence", "message"),
    [
        (["a", "b"], ["a"], [0.5, 0.5], "inconsistent numbers of samples"),
        (["a", "b"], ["a", "b"], [0.5, np.nan], "Input confidence contains NaN"),
        (["a", "b"], [0, 1], [0.5, 0.5], "Mix of label input types"),
        (["a", "b"], ["a", "b"], [[0.5, 0.5]] * 2, "y should be a 1d array"),
        ([], [], [], "0 sample(s)"),
    ],
)
def test_risk_coverage_curve_refuses(y_true, y_pred, confidence, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        risk_coverage_curve(y_true, y_pred, confidence)
