"""Models inside models: what is found in each chain, and what a query changes in a copy."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from sklearn_cells import (
    JSDivergenceSelector,
    LogNormalizer,
    RejectOptionClassifier,
    VarianceStabilizer,
    make_cell_pipeline,
)
from sklearn_cells._models import check_model, choice_of, for_query, inner_model, rejecting_model, step_of
from sklearn_cells.pipeline import CellPipeline


class Half(ClassifierMixin, BaseEstimator):
    """A rejecting model of another package: it leaves cells unassigned whose probability is below a half."""

    def fit(self, X, y):
        self.classes_, self.unassigned_label_, self.threshold_ = np.unique(y), "?", 0.5
        self.inner_ = MultinomialNB().fit(X, y)
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)

    def assign(self, probabilities):
        labels = self.classes_[probabilities.argmax(axis=1)]
        return np.where(probabilities.max(axis=1) >= self.threshold_, labels, self.unassigned_label_)

    def predict(self, X):
        return self.assign(self.predict_proba(X))


def pipeline_of(classifier, **params):
    return make_cell_pipeline(select__n_features_to_select=20, **params).set_params(
        normalize=VarianceStabilizer(), classify=classifier
    )


def reject(estimator, **params):
    return RejectOptionClassifier(estimator, **{"threshold": 0.9, "calibration": None} | params)


def search(estimator):
    return GridSearchCV(estimator, {}, cv=2)


NAIVE = LogisticRegression(C=1e-3)
# Where a reject option stands in a model, before it is fitted; `fitted` freezes what is.
CHAINS = {
    "outermost": lambda fit: fit(reject(pipeline_of(NAIVE))),
    "last step": lambda fit: fit(pipeline_of(reject(NAIVE))),
    "searched": lambda fit: fit(search(reject(pipeline_of(NAIVE)))),
    "search of a pipeline": lambda fit: fit(search(pipeline_of(reject(NAIVE)))),
    "search as last step": lambda fit: fit(pipeline_of(search(reject(NAIVE)))),
    "frozen": lambda fit: FrozenEstimator(fit(reject(pipeline_of(NAIVE)))),
    "frozen pipeline": lambda fit: FrozenEstimator(FrozenEstimator(fit(pipeline_of(reject(NAIVE))))),
    "frozen steps": lambda fit: _frozen_steps(fit(pipeline_of(reject(NAIVE)))),
    "nested pipeline": lambda fit: _nested(fit(pipeline_of(reject(NAIVE)))),
    "twice": lambda fit: fit(reject(reject(pipeline_of(NAIVE), threshold=0))),
}


def _frozen_steps(model):
    return CellPipeline([(name, FrozenEstimator(step)) for name, step in model.steps])


def _nested(model):
    return CellPipeline([("none", "passthrough"), ("first", model[:2]), ("rest", make_pipeline(model[2], model[3]))])


@pytest.fixture(params=CHAINS)
def rejecting(request, cells):
    """A model that leaves some cells unassigned, with the reject option in each place."""
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    confidence = pipeline_of(clone(NAIVE)).fit(cells, y).predict_proba(cells).max(axis=1)
    model = CHAINS[request.param](lambda model: model.fit(cells, y))
    return for_query(model, threshold=float(np.median(confidence)))


def test_a_reject_option_is_found_wherever_it_stands(cells, rejecting):
    found = rejecting_model(rejecting)
    assert type(found) is RejectOptionClassifier
    named = found.assign(rejecting.predict_proba(cells))
    assert named.tolist() == rejecting.predict(cells).tolist()
    assert 10 < np.sum(named == "Unassigned") < 230


def test_a_threshold_is_set_in_a_copy_wherever_the_reject_option_stands(cells, rejecting):
    before = rejecting.predict(cells).tolist()
    assert (for_query(rejecting, threshold=1.0).predict(cells) == "Unassigned").all()
    assert (for_query(rejecting, threshold=0.0).predict(cells) != "Unassigned").all()
    assert rejecting.predict(cells).tolist() == before


def test_a_query_has_its_own_layer_and_names_in_a_copy(cells, rejecting):
    var = cells.var.assign(symbol=cells.var_names).set_axis([f"id {i}" for i in range(cells.n_vars)])
    query = ad.AnnData(np.ones(cells.shape), obs=cells.obs, var=var, layers={"counts": cells.X})
    expected = rejecting.predict_proba(cells)
    found = for_query(rejecting, layer="counts", gene_names="symbol").predict_proba(query)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(rejecting.predict_proba(cells), expected)
    assert vars(choice_of(inner_model(rejecting))) == {"layer": None, "gene_names": "var_names", "duplicates": "sum"}


def test_the_model_inside_has_neither_wrappers_nor_pipelines(cells, rejecting):
    inner = inner_model(rejecting)
    assert isinstance(inner, Pipeline)
    assert [type(step).__name__ for step in inner.named_steps.values() if step != "passthrough"] == [
        "GeneAligner",
        "JSDivergenceSelector",
        "VarianceStabilizer",
        "LogisticRegression",
    ]
    assert step_of(rejecting, JSDivergenceSelector) is inner.steps[-3][1]


def test_a_rejecting_model_of_another_package_is_one(cells):
    model = search(pipeline_of(Half())).fit(cells, cells.obs["cell_type"])
    assert rejecting_model(model) is model.best_estimator_["classify"]
    assert set(for_query(model, threshold=1.1).predict(cells)) == {"?"}


@pytest.mark.parametrize("kind", [BaggingClassifier, RandomForestClassifier])
def test_the_template_of_an_ensemble_is_not_the_model(cells, kind):
    model = kind(n_estimators=2, random_state=0).fit(cells.X, cells.obs["cell_type"])
    assert inner_model(model) is model
    assert rejecting_model(model) is None
    with pytest.raises(ValueError, match=f"layer='X' cannot be set in {kind.__name__}, whose first step has no such"):
        for_query(model, layer="X")


def test_a_model_that_names_all_cells_has_no_threshold(cells):
    model = pipeline_of(MultinomialNB()).fit(cells, cells.obs["cell_type"])
    assert rejecting_model(model) is None
    with pytest.raises(
        ValueError, match=r"threshold=0\.5 has no effect, because CellPipeline leaves no cell unassigned"
    ):
        for_query(model, threshold=0.5)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("blood.cellmodel", TypeError, r"the path 'blood\.cellmodel', .*: pass load_model\('blood\.cellmodel'\)\."),
        (Path("blood.cellmodel"), TypeError, r"pass load_model\('blood\.cellmodel'\)\."),
        (None, TypeError, "The model is of type NoneType, expected a fitted model"),
        ({"model": 1}, TypeError, "The model is of type dict, expected a fitted model"),
        (LogisticRegression, TypeError, "The model is the class LogisticRegression, expected a fitted model"),
        (LogisticRegression(), NotFittedError, r"The model is a LogisticRegression that is not fitted: call its `fit`"),
        (search(reject(pipeline_of(NAIVE))), NotFittedError, "The model is a GridSearchCV that is not fitted"),
        (pipeline_of(NAIVE), NotFittedError, "The model is a CellPipeline that is not fitted"),
        (FrozenEstimator(pipeline_of(NAIVE)), NotFittedError, "The model is a FrozenEstimator that is not fitted"),
    ],
)
def test_what_is_no_fitted_model_is_refused_with_what_to_pass(model, error, message):
    with pytest.raises(error, match=message):
        check_model(model)


def test_models_that_cannot_predict_are_refused(cells):
    X, y = cells.X, cells.obs["cell_type"]
    with pytest.raises(TypeError, match="a LinearSVC, which has no predict_proba: wrap it in RejectOptionClassifier"):
        check_model(LinearSVC().fit(X, y), "predict_proba")
    with pytest.raises(ValueError, match="a GridSearchCV that was fitted with refit=False, .*: fit it with refit=True"):
        check_model(GridSearchCV(MultinomialNB(), {"alpha": [1]}, refit=False, cv=2).fit(X, y), "predict_proba")


def test_a_step_that_is_not_there_is_named(cells):
    model = make_pipeline(LogNormalizer(), MultinomialNB()).fit(cells.X, cells.obs["cell_type"])
    with pytest.raises(
        TypeError, match="Expected a JSDivergenceSelector, or a pipeline that contains one, got Pipeline"
    ):
        step_of(model, JSDivergenceSelector)
