"""make_cell_pipeline: counts in, classes out, every parameter in reach."""

import subprocess
import sys
import tracemalloc

import anndata as ad
import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, classification_report
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, permutation_test_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from sklearn_cells import GeneAligner, JSDivergenceSelector, VarianceStabilizer, annotate, make_cell_pipeline
from sklearn_cells._cells import row_blocks
from sklearn_cells.datasets import make_cells
from sklearn_cells.neural_network._networks import build_network
from sklearn_cells.pipeline import CellPipeline

SMALL = {
    "select__n_features_to_select": 20,
    "classify__hidden_layer_sizes": (16,),
    "classify__epochs": 10,
    "classify__learning_rate": 0.01,
    "classify__random_state": 0,
}


@pytest.fixture(scope="module")
def fitted(cells):
    return make_cell_pipeline(**SMALL).fit(cells[:160], cells.obs["cell_type"][:160])


def test_names_the_types_of_unseen_cells(cells, fitted):
    assert fitted.score(cells[160:], cells.obs["cell_type"][160:]) > 0.9
    report = classification_report(cells.obs["cell_type"][160:], fitted.predict(cells[160:]), output_dict=True)
    assert report["type 1"]["recall"] > 0.8


def test_genes_are_ranked_on_counts_before_scaling(cells):
    pipeline = make_cell_pipeline(**SMALL | {"classify__learning_rate": 0.005}).fit(cells, cells.obs["cell_type"])
    unscaled = make_cell_pipeline(**SMALL).fit(cells, cells.obs["cell_type"])
    np.testing.assert_array_equal(pipeline["select"].divergences_, unscaled["select"].divergences_)
    assert pipeline.score(cells, cells.obs["cell_type"]) > 0.9


def test_every_parameter_of_every_step_is_reached():
    pipeline = make_cell_pipeline(verbose=True, select__weights="prior", classify__dropout=0.3)
    assert isinstance(pipeline, Pipeline)
    assert pipeline.verbose
    assert pipeline["select"].weights == "prior"
    assert pipeline["classify"].dropout == 0.3
    with pytest.raises(ValueError, match="n_genes"):
        make_cell_pipeline(select__n_genes=100)


def test_grid_search_on_anndata_does_not_depend_on_workers(cells):
    grid = {
        "select__n_features_to_select": [3, 30],
        "classify__hidden_layer_sizes": [(8,)],
        "classify__learning_rate": [0.02],
    }
    one, two = (
        GridSearchCV(make_cell_pipeline(**SMALL), grid, cv=2, n_jobs=n_jobs).fit(cells, cells.obs["cell_type"])
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(one.predict_proba(cells), two.predict_proba(cells))
    assert one.best_params_ == two.best_params_
    assert one.best_params_["select__n_features_to_select"] == 30


def test_cross_validation_on_backed_anndata(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    scores = cross_val_score(make_cell_pipeline(**SMALL), backed, backed.obs["cell_type"], cv=2)
    np.testing.assert_array_equal(
        scores, cross_val_score(make_cell_pipeline(**SMALL), cells, cells.obs["cell_type"], cv=2)
    )
    backed.file.close()


def test_dumped_pipeline_predicts_the_same_in_a_new_process(cells, fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "pipeline.joblib")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    script = (
        "import joblib, numpy as np, sklearn_cells\n"
        "cells = sklearn_cells.read_cells('cells.h5ad')\n"
        "np.save('probabilities', joblib.load('pipeline.joblib').predict_proba(cells))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    np.testing.assert_array_equal(np.load(tmp_path / "probabilities.npy"), fitted.predict_proba(cells))


def test_genes_in_another_order_predict_the_same_and_missing_ones_are_announced(cells, fitted):
    np.testing.assert_array_equal(fitted.predict_proba(cells[:, ::-1]), fitted.predict_proba(cells))
    with pytest.warns(UserWarning, match=r"The cells lack .* most informative missing genes"):
        assert fitted.score(cells[160:, 8:], cells.obs["cell_type"][160:]) > 0.6
    with pytest.raises(ValueError, match="expecting 60 features"), pytest.warns(UserWarning, match="feature names"):
        fitted.predict(cells.X[:, :50])


def as_frame(cells):
    return cells.to_df()


def as_csr(cells):
    return cells.X


def as_array(cells):
    return cells.X.toarray()


@pytest.mark.parametrize("container", [lambda cells: cells, as_frame, as_csr, as_array])
def test_blocks_predict_what_all_cells_at_once_do(cells, monkeypatch, container):
    X = container(cells)
    fitted = make_cell_pipeline(**SMALL).fit(X[:160], cells.obs["cell_type"][:160])
    expected = Pipeline(fitted.steps).predict_proba(X)
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 50)
    blocks = [block.shape[0] for _, block in row_blocks(X)]
    assert blocks == [50, 50, 50, 50, 40]
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[expected.argmax(axis=1)])
    assert fitted.score(X, cells.obs["cell_type"]) == np.mean(fitted.predict(X) == cells.obs["cell_type"])


def test_memory_of_prediction_from_disk_does_not_grow_with_the_cells(fitted, monkeypatch, tmp_path):
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 500)
    peaks = []
    for n_cells in (1000, 8000):
        make_cells(n_cells, 60, n_classes=3, mean_count=5, random_state=0).write_h5ad(tmp_path / "many.h5ad")
        backed = ad.read_h5ad(tmp_path / "many.h5ad", backed="r")
        fitted.predict(backed)
        tracemalloc.start()
        fitted.predict(backed)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        backed.file.close()
    assert peaks[1] - peaks[0] < 7000 * 60 * 8  # what the cells take as CSR; nothing of them is kept but the result


def test_one_cell_and_none_predict(cells, fitted):
    np.testing.assert_array_equal(fitted.predict_proba(cells[5]), fitted.predict_proba(cells)[5:6])
    assert fitted.predict(cells[:0]).shape == (0,)
    assert fitted.predict_proba(cells[:0]).shape == (0, 3)
    assert list(annotate(fitted, cells[:0])) == list(annotate(fitted, cells[:1]))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scikit_learns_functions_take_anndata_and_its_views(cells, n_jobs):
    pipeline = make_cell_pipeline(select__n_features_to_select=20).set_params(classify=MultinomialNB())
    view = cells[40:200]
    view_types = view.obs["cell_type"].cat.add_categories("unused")
    predicted = cross_val_predict(pipeline, view, view_types, cv=3, method="predict_proba", n_jobs=n_jobs)
    assert predicted.shape == (160, 3)
    scored = permutation_test_score(pipeline, view, view_types, cv=2, n_permutations=5, random_state=0, n_jobs=n_jobs)
    assert scored[0] > scored[1].max()


def test_layer_and_gene_names_are_of_the_first_step(cells):
    other = cells.copy()
    other.layers["counts"] = other.X
    other.X = None
    other.var["symbol"] = other.var_names
    other.var_names = [f"id {i}" for i in range(60)]
    y = cells.obs["cell_type"]
    pipeline = make_cell_pipeline(layer="counts", gene_names="symbol", **SMALL).fit(other, y)
    assert pipeline["select"].feature_names_in_.tolist() == cells.var_names.tolist()
    expected = make_cell_pipeline(**SMALL).fit(cells, y).predict_proba(cells)
    np.testing.assert_array_equal(pipeline.predict_proba(other), expected)
    np.testing.assert_array_equal(
        pipeline.set_params(align__layer=None, align__gene_names="var_names").predict_proba(cells), expected
    )


def test_predict_before_fit_is_refused(cells):
    with pytest.raises(ValueError, match="not fitted yet"):
        make_cell_pipeline().predict(cells)


def test_presets_of_2019_have_the_exact_networks():
    mlp, cnn = make_cell_pipeline("mlp_2019"), make_cell_pipeline("cnn_2019")
    assert mlp["select"].n_features_to_select == 1000
    assert cnn["select"] == "passthrough"
    assert build_network(mlp["classify"], 1000, 10, seed=0).count_params() == 3_104_266
    assert build_network(cnn["classify"], 19_232, 10, seed=0).count_params() == 6_609_818
    for pipeline in (mlp, cnn):
        classify = pipeline["classify"]
        assert (classify.batch_size, classify.epochs, classify.learning_rate) == (60, 10, 0.001)
        assert not any(isinstance(step, VarianceStabilizer) for step in pipeline)
        assert (classify.class_weight, classify.input_norm, classify.learning_rate_schedule) == (None, None, "constant")

    assert (mlp["classify"].dropout, mlp["classify"].kernel_l2) == ((0, 0.8), (0.01, 0.01, 0))
    assert (cnn["classify"].dropout, cnn["classify"].kernel_l2) == (0.5, (0.01, 0))


def test_defaults_are_those_of_the_benchmarks():
    align, select, normalize, classify = make_cell_pipeline().named_steps.values()
    assert type(align) is GeneAligner
    assert align.require_counts
    assert (type(select), select.n_features_to_select, select.weights) == (JSDivergenceSelector, 2000, "uniform")
    assert normalize == "passthrough"
    chosen = {"hidden_layer_sizes": (128,), "kernel_l2": 0.005, "dropout": 0.0, "input_norm": 15.0, "epochs": "auto"}
    chosen |= {"learning_rate": 0.003, "batch_size": 64, "class_weight": "sqrt", "engine": "tensorflow"}
    chosen |= {"views": "depth_free", "gene_noise": 0.7, "program_noise": 1.0, "missing_genes": 0.5}
    chosen |= {"linear_path": True, "home_network": True}
    assert chosen.items() <= classify.get_params().items()


def test_preset_takes_parameters_too(cells):
    params = {"hidden_layer_sizes": (32, 16), "dropout": 0, "epochs": 60, "random_state": 0}
    classify = {f"classify__{name}": value for name, value in params.items()}
    pipeline = make_cell_pipeline("mlp_2019", select__n_features_to_select=20, **classify)
    pipeline.fit(cells[:160], cells.obs["cell_type"][:160])
    assert pipeline.score(cells[160:], cells.obs["cell_type"][160:]) > 0.8
    with pytest.raises(ValueError, match="'preset' parameter of make_cell_pipeline must be"):
        make_cell_pipeline("mlp_2020")


# ---- CellPipeline


class RecordingClassifier(LogisticRegression):
    """Keeps what it is asked for, and takes the batch of each cell."""

    def predict(self, X, batch=None):
        self.asked = [*getattr(self, "asked", []), (X.shape[0], None if batch is None else list(batch))]
        return super().predict(X)


def cell_pipeline(classifier):
    return CellPipeline([("select", JSDivergenceSelector(20)), ("classify", classifier)])


@pytest.mark.parametrize("kind", ["CSC", "Dask", "AnnData of Dask"])
def test_cells_that_rows_are_slow_of_come_in_blocks(cells, monkeypatch, kind):
    if kind == "CSC":
        X = cells.X.tocsc()
    else:
        X = pytest.importorskip("dask.array").from_array(cells.X.toarray(), chunks=(50, 60))
        X = X if kind == "Dask" else ad.AnnData(X, cells.obs, cells.var)
    y = cells.obs["cell_type"]
    pipeline = cell_pipeline(RecordingClassifier(max_iter=1000)).fit(X, y)
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 50)
    predicted = pipeline.predict(X)
    assert [n_cells for n_cells, _ in pipeline[-1].asked] == [50, 50, 50, 50, 40]
    np.testing.assert_array_equal(predicted, pipeline[-1].predict(pipeline[0].transform(X)))


def test_what_has_a_value_for_each_cell_is_cut_with_the_blocks(cells, monkeypatch):
    pipeline = cell_pipeline(RecordingClassifier(max_iter=1000)).fit(cells, cells.obs["cell_type"])
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 100)
    pipeline.predict(cells, batch=np.arange(240))
    assert pipeline[-1].asked == [(100, [*range(100)]), (100, [*range(100, 200)]), (40, [*range(200, 240)])]


def test_score_weighs_cells_with_and_without_routing(cells, monkeypatch):
    y, sample_weight = cells.obs["cell_type"], np.arange(240) % 5
    with config_context(enable_metadata_routing=True):
        classifier = DecisionTreeClassifier(max_depth=1).set_score_request(sample_weight=True)
    pipeline = cell_pipeline(classifier).fit(cells, y)
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 50)
    expected = accuracy_score(y, pipeline.predict(cells), sample_weight=sample_weight)
    assert expected != pipeline.score(cells, y)
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            assert pipeline.score(cells, y, sample_weight=sample_weight) == expected


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_no_cells_before_fit_are_refused_too(cells, method):
    with pytest.raises(NotFittedError):
        getattr(cell_pipeline(LogisticRegression()), method)(cells[:0])


def test_chain_that_ends_in_a_transformer_gives_frames(cells):
    steps = [("align", GeneAligner()), ("select", JSDivergenceSelector(5)), ("normalize", VarianceStabilizer())]
    X, y = cells.to_df(), cells.obs["cell_type"]
    views = CellPipeline(steps).set_output(transform="pandas").fit(X, y).transform(X.iloc[:3])
    genes = steps[1][1].get_feature_names_out().tolist()
    assert views.columns.tolist() == [f"{view}__{gene}" for view in ("sqrt", "linear", "log1p") for gene in genes]
    assert views.index.tolist() == X.index[:3].tolist()


def test_a_later_step_that_chooses_a_layer_is_refused_in_fit(cells):
    other = cells.copy()
    other.layers["counts"] = other.X.copy()
    with pytest.raises(ValueError, match="layer='counts' .* In a pipeline, set them in the first step only"):
        make_cell_pipeline(select__layer="counts", **SMALL).fit(other, other.obs["cell_type"])


def test_normalised_values_are_refused_in_fit_and_in_predict(cells):
    log, y = cells.copy(), cells.obs["cell_type"]
    log.layers["counts"] = log.X.copy()
    log.X = log.X.log1p()
    pipeline = make_cell_pipeline(select__n_features_to_select=20).set_params(classify=MultinomialNB())
    message = r"Expected counts, .* at cell 0 \(cell 0\), gene 'gene 0': .* layer='counts' holds counts"
    with pytest.raises(ValueError, match=message):
        pipeline.fit(log, y)
    pipeline.fit(cells, y)
    for method in (pipeline.predict, pipeline.predict_proba):
        with pytest.raises(ValueError, match=message):
            method(log)
    expected = pipeline.predict(cells)
    np.testing.assert_array_equal(pipeline.set_params(align__layer="counts").predict(log), expected)


def test_a_step_of_another_package_takes_what_the_aligner_gives(cells):
    """As in scikit-learn's Pipeline; no object of this package's own."""
    seen = []

    def matrix(X):
        seen.append(type(X))
        return X.X

    steps = [("align", GeneAligner()), ("matrix", FunctionTransformer(matrix)), ("classify", MultinomialNB())]
    y = cells.obs["cell_type"]
    predicted = CellPipeline(steps).fit(cells, y).predict(cells)
    assert set(seen) == {ad.AnnData}
    np.testing.assert_array_equal(
        predicted, Pipeline([(name, clone(step)) for name, step in steps]).fit(cells, y).predict(cells)
    )


def test_a_fit_without_labels_says_so(cells):
    with pytest.raises(ValueError, match="requires y to be passed"):
        make_cell_pipeline().fit(cells)


def test_warm_start_goes_on_with_the_genes_that_were_selected():
    cells = make_cells(240, 60, n_classes=3, random_state=0)
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    params = {"classify__home_network": False, "classify__novelty": False, "classify__random_state": 0}
    pipeline = make_cell_pipeline(select__n_features_to_select=20, **params).fit(cells[:120], y[:120])
    genes, probabilities = pipeline["select"].ranking_.copy(), pipeline.predict_proba(cells)
    pipeline.set_params(classify__warm_start=True, classify__epochs=1, classify__learning_rate=1e-9)
    pipeline.fit(cells[120:], y[120:], classify__sample_weight=np.ones(120))
    np.testing.assert_array_equal(pipeline["select"].ranking_, genes)
    np.testing.assert_allclose(pipeline.predict_proba(cells), probabilities, atol=1e-4)
    # Without it, and of a clone, all steps are fitted.
    assert (clone(pipeline).fit(cells[120:], y[120:])["select"].ranking_ != genes).any()
    pipeline.set_params(classify__warm_start=False).fit(cells[120:], y[120:])
    assert (pipeline["select"].ranking_ != genes).any()
