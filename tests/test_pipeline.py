"""make_cell_pipeline: counts in, classes out, every parameter in reach."""

import subprocess
import sys

import anndata as ad
import joblib
import numpy as np
import pytest
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

from sklearn_cells import JSDivergenceSelector, VarianceStabilizer, make_cell_pipeline

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


def test_matrix_and_anndata_give_the_same(cells, fitted):
    from_matrix = make_cell_pipeline(**SMALL).fit(cells.X[:160], cells.obs["cell_type"][:160])
    np.testing.assert_array_equal(from_matrix.predict_proba(cells.X[160:]), fitted.predict_proba(cells[160:]))
    assert fitted["select"].feature_names_in_.tolist() == cells.var_names.tolist()


def test_genes_are_ranked_on_counts_before_scaling(cells):
    pipeline = make_cell_pipeline(**SMALL, normalize__target_sum=100).fit(cells, cells.obs["cell_type"])
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


def test_other_genes_at_predict_are_refused(cells, fitted):
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(cells[:, ::-1])
    with pytest.raises(ValueError, match="feature names should match|expecting 60 features"):
        fitted.predict(cells[:, :50])


def test_predict_before_fit_is_refused(cells):
    with pytest.raises(ValueError, match="not fitted yet"):
        make_cell_pipeline().predict(cells)


def test_presets_of_2019_have_the_exact_networks():
    mlp, cnn = make_cell_pipeline("mlp_2019"), make_cell_pipeline("cnn_2019")
    assert mlp["select"].n_features_to_select == 1000
    assert cnn["select"] == "passthrough"
    assert mlp["classify"]._build(1000, 10, seed=0).count_params() == 3_104_266
    assert cnn["classify"]._build(19_232, 10, seed=0).count_params() == 6_609_818
    for pipeline in (mlp, cnn):
        classify = pipeline["classify"]
        assert (classify.batch_size, classify.epochs, classify.learning_rate) == (60, 10, 0.001)
        assert not any(isinstance(step, VarianceStabilizer) for step in pipeline)
        assert (classify.class_weight, classify.input_norm, classify.learning_rate_schedule) == (None, None, "constant")

    assert (mlp["classify"].dropout, mlp["classify"].kernel_l2) == ((0, 0.8), (0.01, 0.01, 0))
    assert (cnn["classify"].dropout, cnn["classify"].kernel_l2) == (0.5, (0.01, 0))


def test_defaults_are_those_of_the_benchmarks():
    select, normalize, classify = make_cell_pipeline().named_steps.values()
    assert (type(select), select.n_features_to_select, select.weights) == (JSDivergenceSelector, 2000, "uniform")
    assert normalize.get_params() == {
        "sqrt_share": 0.4,
        "linear_share": 0.2,
        "log_share": 0.4,
        "target_sum": 10_000,
        "divergence_power": 0.25,
        "layer": None,
        "gene_names": "var_names",
    }
    chosen = {"hidden_layer_sizes": (128,), "kernel_l2": 0.005, "dropout": 0.0, "input_norm": 15.0, "epochs": 20}
    chosen |= {"learning_rate": 0.003, "batch_size": 64, "class_weight": "balanced", "engine": "tensorflow"}
    assert chosen.items() <= classify.get_params().items()


def test_preset_takes_parameters_too(cells):
    params = {"hidden_layer_sizes": (32, 16), "dropout": 0, "epochs": 60, "random_state": 0}
    classify = {f"classify__{name}": value for name, value in params.items()}
    pipeline = make_cell_pipeline("mlp_2019", select__n_features_to_select=20, **classify)
    pipeline.fit(cells[:160], cells.obs["cell_type"][:160])
    assert pipeline.score(cells[160:], cells.obs["cell_type"][160:]) > 0.8
    with pytest.raises(ValueError, match="'preset' parameter of make_cell_pipeline must be"):
        make_cell_pipeline("mlp_2020")
