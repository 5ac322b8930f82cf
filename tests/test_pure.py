"""Prediction writes nothing: a model is the same before and after, to the byte of its file, and in threads."""

from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest

from sklearn_cells import RejectOptionClassifier, annotate, make_cell_pipeline, save_model


@pytest.fixture(scope="module")
def model(cells):
    pipeline = make_cell_pipeline(
        select__n_features_to_select=20, classify__hidden_layer_sizes=(8,), classify__epochs=3, classify__random_state=0
    )
    reject = RejectOptionClassifier(pipeline, target_coverage=0.8, cv=2, random_state=0)
    return reject.fit(cells, cells.obs["cell_type"])


@pytest.fixture
def queries(cells):
    """Cells with all genes, with others, in another order, elsewhere, and as a table."""
    elsewhere = cells[:, ::-1].copy()
    elsewhere.layers["counts"], elsewhere.X = elsewhere.X, elsewhere.X * 0
    queries = [cells[:100], cells[:, 10:], cells[:50, ::-1], cells[:, 5:40].copy(), cells[100:].to_df().iloc[:, ::2]]
    return [(query, {}) for query in queries] + [(elsewhere, {"layer": "counts", "threshold": 0.5})]


@pytest.mark.filterwarnings("ignore:The cells lack")
def test_prediction_changes_neither_the_model_nor_its_file(model, queries, tmp_path):
    def state(name):
        save_model(model, tmp_path / name)
        return joblib.hash(model), (tmp_path / name).read_bytes()

    before = state("before.cellmodel")
    for query, options in queries:
        annotate(model, query, **options)
        if not options:
            model.predict(query)
        assert state(f"after {len(list(tmp_path.iterdir()))}.cellmodel") == before


@pytest.mark.filterwarnings("ignore:The cells lack")
def test_threads_predict_what_one_after_the_other_predicts(model, queries):
    queries = queries * 4

    def probabilities(query):
        cells, options = query
        return annotate(model, cells, return_proba=True, **options)[1].to_numpy()

    expected = [probabilities(query) for query in queries]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(probabilities, queries))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
