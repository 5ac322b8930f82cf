"""from_celltypist: the labels and probabilities of CellTypist, and nothing run of what a file names."""

import os
import pickle
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import clear_data_home
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.preprocessing import StandardScaler

from sklearn_cells import RejectOptionClassifier, annotate, from_celltypist, load_model, save_model
from sklearn_cells.cli import main
from sklearn_cells.datasets import make_cells
from sklearn_cells.linear_model import CellTypistClassifier

GENES = [f"G{gene}" for gene in range(40)]
RARE = 15  # a gene that two cells have


def log_normalized(X):
    X = X.toarray() if sp.issparse(X) else np.asarray(X)
    totals = X.sum(axis=1, keepdims=True)
    return np.log1p(1e4 * np.divide(X, totals, out=np.zeros_like(X), where=totals > 0))


def trained(cells, classifier, *, with_mean=True, n_genes=40):
    """Return what CellTypist pickles of a model, trained on some genes of cells."""
    X = log_normalized(cells.X)[:, :n_genes]
    scaler = StandardScaler(with_mean=with_mean)
    classifier.fit(np.minimum(scaler.fit_transform(X), 10), cells.obs["cell_type"].to_numpy(dtype=object))
    classifier.features = cells.var_names[:n_genes].to_numpy(dtype=object)
    description = {"date": "2026-01-02", "details": "blood", "url": "", "source": "a paper", "version": "v1"}
    return {"Model": classifier, "Scaler_": scaler, "description": {**description, "number_celltypes": 3}}


def scores_of(model, cells):
    """Return the decision matrix of CellTypist, by its definition."""
    classifier, scaler = model["Model"], model["Scaler_"]
    query = pd.DataFrame(log_normalized(cells.X), columns=cells.var_names)
    query = query.loc[:, ~query.columns.duplicated()]  # var_names_make_unique gives others another name
    shared = [gene for gene in classifier.features if gene in query.columns]
    places = [list(classifier.features).index(gene) for gene in shared]
    means = scaler.mean_[places] if scaler.with_mean else 0
    scaled = np.minimum((query[shared].to_numpy() - means) / scaler.scale_[places], 10)
    scores = scaled @ classifier.coef_[:, places].T + classifier.intercept_
    return np.hstack([-scores, scores]) if scores.shape[1] == 1 else scores


def written(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.fixture(scope="module")
def cells():
    cells = make_cells(200, 60, n_classes=3, random_state=0)
    X = cells.X.toarray().astype(np.float64)
    X[:, RARE] = 0
    X[:2, RARE] = 1
    cells.X = sp.csr_matrix(X)
    cells.var_names = [*GENES, *(f"other {gene}" for gene in range(20))]
    return cells


@pytest.fixture(scope="module")
def query(cells):
    """Other genes, some of the model missing, one twice, a gene far above its mean, and a cell without counts."""
    genes = [*range(50, 10, -1)]
    query = cells[100:, genes].copy()
    X = query.X.toarray()
    X[3], X[4, genes.index(RARE)] = 0, 9000
    names = query.var_names.to_numpy(dtype=object)
    names[20] = names[30]
    with pytest.warns(UserWarning, match="not unique"):
        return ad.AnnData(sp.csr_matrix(X), obs=query.obs, var=pd.DataFrame(index=names))


@pytest.fixture(scope="module")
def model(cells):
    return trained(cells, LogisticRegression())


@pytest.fixture
def path(model, tmp_path):
    return written(tmp_path / "blood.pkl", model)


MODELS = {
    "logistic regression": lambda cells: trained(cells, LogisticRegression()),
    "SGD": lambda cells: trained(cells, SGDClassifier(loss="log_loss", random_state=0)),
    "few genes": lambda cells: trained(cells, LogisticRegression(), n_genes=25),
    "no mean": lambda cells: trained(cells, LogisticRegression(), with_mean=False),
    "two types": lambda cells: trained(cells[cells.obs["cell_type"] != "type 2"], LogisticRegression()),
}

# What a query without some of the genes is warned of; a cell without counts, too.
quiet = pytest.mark.filterwarnings(
    "ignore:The cells lack",
    "ignore:All .* genes have zero counts",
    "ignore:1 of .* gene names",
    "ignore:Variable names",
)


@quiet
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_labels_scores_and_probabilities_are_those_of_celltypist(make, cells, query, tmp_path):
    content = make(cells)
    model = from_celltypist(written(tmp_path / "model.pkl", content))
    for some in (cells, query):
        scores = scores_of(content, some)
        annotation, probabilities = annotate(model, some, return_proba=True)
        np.testing.assert_allclose(probabilities, expit(scores), atol=1e-12)
        np.testing.assert_array_equal(annotation["predicted_label"], content["Model"].classes_[scores.argmax(axis=1)])
        np.testing.assert_array_equal(annotation["confidence"], probabilities.max(axis=1))
        expected = scores[:, 1] if scores.shape[1] == 2 else scores
        np.testing.assert_allclose(model.decision_function(some), expected, atol=1e-9)


def test_the_query_of_these_tests_is_cut_off_and_lacks_genes(model, query):
    assert not set(GENES) <= set(query.var_names)
    assert not query.var_names.is_unique
    places = [GENES.index(name) for name in query.var_names if name in GENES]
    scaled = log_normalized(query.X)[:, query.var_names.isin(GENES)] - model["Scaler_"].mean_[places]
    assert (scaled / model["Scaler_"].scale_[places]).max() > 10


@quiet
def test_a_model_of_which_types_were_taken_away_keeps_a_row_for_each(cells, model, query, tmp_path):
    classifier = LogisticRegression()
    classifier.__dict__.update(vars(model["Model"]))
    classifier.classes_, classifier.coef_ = classifier.classes_[:2], classifier.coef_[:2]
    classifier.intercept_ = classifier.intercept_[:2]
    converted = from_celltypist(written(tmp_path / "model.pkl", {**model, "Model": classifier}))
    scores = scores_of({**model, "Model": classifier}, query)
    np.testing.assert_allclose(converted.predict_proba(query), expit(scores), atol=1e-12)
    np.testing.assert_array_equal(converted.predict(query), classifier.classes_[scores.argmax(axis=1)])
    np.testing.assert_allclose(converted.decision_function(query), np.diff(scores).ravel() / 2, atol=1e-9)


def test_labels_follow_the_scores_where_probabilities_round_to_one(cells, model, tmp_path):
    steep = LogisticRegression()
    steep.__dict__.update(vars(model["Model"]))
    steep.intercept_ = np.array([100.0, 200.0, 300.0])
    converted = from_celltypist(written(tmp_path / "model.pkl", {**model, "Model": steep}))
    assert (converted.predict_proba(cells) == 1).all()
    assert (converted.predict(cells) == "type 2").all()


@quiet
def test_cells_on_disk_in_blocks_and_as_other_containers_give_the_same(path, query, tmp_path, monkeypatch):
    model = from_celltypist(path)
    expected = model.predict_proba(query)
    query.layers["counts"] = query.X.copy()
    query.write_h5ad(tmp_path / "query.h5ad")
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 7 * query.n_vars)
    monkeypatch.setattr("sklearn_cells.linear_model._celltypist_classifier.DENSE_VALUES", 3 * 40)
    for cells in (query, ad.read_h5ad(tmp_path / "query.h5ad", backed="r")):
        np.testing.assert_allclose(model.predict_proba(cells), expected, atol=1e-12)
    of_layer = query.copy()
    of_layer.X = log_normalized(query.X)
    np.testing.assert_allclose(annotate(model, of_layer, layer="counts")["confidence"], expected.max(axis=1))
    frame = pd.DataFrame(query.X.toarray(), columns=query.var_names)
    np.testing.assert_allclose(model.predict_proba(frame), expected, atol=1e-12)
    with pytest.raises(ValueError, match="Expected counts, which are whole numbers"):
        model.predict(of_layer)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_all_ways_to_write_arrays_are_read(protocol, byte_order, cells, model, tmp_path):
    scaler = StandardScaler()
    scaler.__dict__.update(vars(model["Scaler_"]))
    scaler.mean_ = scaler.mean_.astype(f"{byte_order}f8")
    classifier = LogisticRegression()
    classifier.__dict__.update(vars(model["Model"]))
    classifier.features, classifier.classes_ = classifier.features.astype("U"), classifier.classes_.astype(str)
    classifier.coef_ = np.asfortranarray(classifier.coef_.astype(np.float32))
    content = {**model, "Model": classifier, "Scaler_": scaler}
    data = pickle.dumps(content, protocol=protocol)
    if protocol == 3:  # NumPy 1 named its modules otherwise
        assert b"numpy._core.multiarray" in data
        data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "model.pkl").write_bytes(data)
    converted = from_celltypist(tmp_path / "model.pkl")
    np.testing.assert_allclose(converted.predict_proba(cells), expit(scores_of(content, cells)), atol=1e-12)


# ---- With the rest of the package


@quiet
def test_model_files_keep_it_and_a_reject_option_around_it(path, cells, query, tmp_path):
    model = from_celltypist(path)
    assert model.card_["description"] == "blood"
    assert model.card_["source"] == "CellTypist model, v1, a paper"
    rejecting = RejectOptionClassifier(model, threshold=0.9, random_state=0).fit(cells, cells.obs["cell_type"])
    for saved in (model, rejecting):
        save_model(saved, tmp_path / "model.cellmodel", card=model.card_, overwrite=True)
        loaded = load_model(tmp_path / "model.cellmodel")
        assert type(loaded) is type(saved)
        np.testing.assert_array_equal(loaded.predict_proba(query), saved.predict_proba(query))
        np.testing.assert_array_equal(annotate(loaded, query), annotate(saved, query))
        assert loaded.card_["name"] == "blood"
    assert "Unassigned" in set(rejecting.predict(query))
    of_one = model.predict_proba(cells)
    expected = of_one / of_one.sum(axis=1, keepdims=True)
    rejecting.temperature_ = 1.0
    np.testing.assert_allclose(rejecting.predict_proba(cells), expected, atol=1e-9)


def test_fit_leaves_the_model_as_it_is(path, cells):
    model = from_celltypist(path)
    expected = model.predict_proba(cells)
    other = np.roll(cells.obs["cell_type"].to_numpy(), 1)
    np.testing.assert_array_equal(clone(model).fit(cells, other).predict_proba(cells), expected)
    with pytest.raises(NotImplementedError, match="cannot be fitted"):
        CellTypistClassifier().fit(cells.X, other)


def test_the_commands_take_it(path, cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    model = from_celltypist(path)
    save_model(model, tmp_path / "blood.cellmodel", card=model.card_)
    options = ["-m", str(tmp_path / "blood.cellmodel"), "-o"]
    query = str(tmp_path / "cells.h5ad")
    result = CliRunner().invoke(main, ["predict", query, *options, str(tmp_path / "named.csv")])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "named.csv", index_col=0)
    np.testing.assert_allclose(table["confidence"], model.predict_proba(cells).max(axis=1))
    report = ["report", query, "--labels=cell_type", "--no-peers", *options, str(tmp_path / "report.html")]
    result = CliRunner().invoke(main, report)
    assert result.exit_code == 0, result.output


def test_load_model_tells_who_reads_the_pickle(path):
    with pytest.raises(ValueError, match="from_celltypist reads pickled CellTypist models without running code"):
        load_model(path)


@pytest.mark.filterwarnings("ignore:All .* genes have zero counts")
def test_a_query_without_most_genes_is_warned_of_and_without_any_is_refused(path, cells):
    model = from_celltypist(path)
    with pytest.warns(UserWarning, match="lack 30 of the 40 genes"):
        model.predict(cells[:, 30:])
    with pytest.raises(ValueError, match="lack 40 of the 40 genes"):
        model.predict(cells[:, 40:])


# ---- Files that are something else


class Runs:
    """Unpickling it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_code_in_a_file_is_refused_and_not_run(model, tmp_path):
    target = tmp_path / "was_run"
    attack = Runs(os.system, f"touch {target}")
    classifier = LogisticRegression()
    classifier.__dict__.update(vars(model["Model"]), coef_=attack)
    for content in (attack, {**model, "description": attack}, {**model, "Model": classifier}):
        for protocol in (0, 4):
            path = written(tmp_path / "model.pkl", content, protocol)
            with pytest.raises(
                ValueError, match="model.pkl refers to .*does not belong.*No code from the file was run"
            ):
                from_celltypist(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(attack))  # the attack works
    assert target.exists()


@pytest.mark.parametrize(
    ("function", "name"), [(eval, "builtins.eval"), (np.fromfile, "numpy"), (shutil.rmtree, "shutil.rmtree")]
)
def test_what_is_refused_is_named(function, name, model, tmp_path):
    path = written(tmp_path / "model.pkl", {**model, "description": Runs(function, "none")})
    with pytest.raises(
        ValueError, match=rf"refers to {name}.*'Model' \(a scikit-learn LogisticRegression or SGDClassifier"
    ):
        from_celltypist(path)


def test_functions_of_scikit_learn_and_numpy_are_not_called(model, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = written(tmp_path / "model.pkl", {**model, "description": Runs(clear_data_home, str(folder))})
    from_celltypist(path)
    assert folder.exists()
    huge = Runs(np.ndarray, (2**60,))
    path = written(tmp_path / "model.pkl", {**model, "description": {"details": huge}})
    from_celltypist(path)


@pytest.mark.parametrize(
    "opcode",
    [pickle.BYTEARRAY8, pickle.BINBYTES8, pickle.BINUNICODE8, pickle.FRAME],
    ids=["bytearray", "bytes", "text", "frame"],
)
def test_lengths_that_the_file_does_not_have_take_no_memory(opcode, tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"\x80\x05" + opcode + (2**40).to_bytes(8, "little") + b"few.")
    with pytest.raises(ValueError, match="it is truncated, damaged or not a pickle"):
        from_celltypist(tmp_path / "model.pkl")


def test_places_beyond_the_memo_take_no_memory(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04N" + pickle.LONG_BINPUT + (2**31).to_bytes(4, "little") + b".")
    with pytest.raises(ValueError, match="it holds a NoneType"):
        from_celltypist(tmp_path / "model.pkl")


def test_extensions_of_pickle_are_refused(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04\x82\x01.")
    with pytest.raises(ValueError, match="refers to the pickle extension 1"):
        from_celltypist(tmp_path / "model.pkl")


def changed(model, part, **attributes):
    content = pickle.loads(pickle.dumps(model))
    vars(content[part]).update(attributes)
    for name, value in attributes.items():
        if value is None:
            delattr(content[part], name)
    return content


TOO_FEW = np.ones(39)
OTHER_FILES = {
    "list": (lambda model: [1, 2], "it holds a list"),
    "keys": (lambda model: {"Model": model["Model"]}, "it holds a dict with Model"),
    "swapped": (
        lambda model: {"Model": model["Scaler_"], "Scaler_": model["Model"]},
        "'Model' is of type sklearn.preprocessing.*StandardScaler; expected a LogisticRegression or SGDClassifier",
    ),
    "no object": (lambda model: {**model, "Scaler_": 1}, "'Scaler_' is of type int; expected a StandardScaler"),
    "no genes": (lambda model: changed(model, "Model", features=None), "'Model' has no 'features'"),
    "not fitted": (lambda model: {**model, "Scaler_": StandardScaler()}, "'Scaler_' has no 'scale_'"),
    "genes": (lambda model: changed(model, "Model", features=np.arange(40)), "'features' of 'Model' has type int64"),
    "list of genes": (lambda model: changed(model, "Model", features=GENES), "expected a NumPy array, got list"),
    "repeated": (
        lambda model: changed(model, "Model", features=np.array([*GENES[1:], "G5"])),
        "contains 'G5' more than once",
    ),
    "fewer genes": (
        lambda model: changed(model, "Model", features=np.array(GENES[1:])),
        r"shape \(3, 40\); expected .*\(3, 39\)",
    ),
    "fewer types": (
        lambda model: changed(model, "Model", classes_=np.array(["a", "b"])),
        r"'coef_' of 'Model' has type float64 and shape \(3, 40\); expected numbers of shape \(2, 40\)",
    ),
    "one type": (lambda model: changed(model, "Model", classes_=np.array(["a"])), "one cell type"),
    "intercept": (lambda model: changed(model, "Model", intercept_=np.ones(1)), "'intercept_' of 'Model'"),
    "scale": (lambda model: changed(model, "Scaler_", scale_=TOO_FEW), "'scale_' of 'Scaler_'"),
    "zero": (lambda model: changed(model, "Scaler_", scale_=np.zeros(40)), "expected values above 0"),
    "nan": (lambda model: changed(model, "Scaler_", mean_=np.full(40, np.nan)), "not finite"),
    "raw counts": (lambda model: changed(model, "Scaler_", mean_=np.full(40, 99.0)), "means of log1p of counts"),
    "objects": (lambda model: changed(model, "Model", coef_=np.full((3, 40), "a", object)), "'coef_' of 'Model'"),
    "times": (lambda model: changed(model, "Model", coef_=np.zeros((3, 40), "M8[s]")), "expected a NumPy array"),
}


@pytest.mark.parametrize(("change", "message"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_what_is_no_model_of_celltypist_is_refused(change, message, model, tmp_path):
    path = written(tmp_path / "model.pkl", change(model))
    with pytest.raises(ValueError, match=f"model.pkl cannot be read as a CellTypist model: .*{message}"):
        from_celltypist(path)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x03\x04", b"\x80\x04."], ids=["empty", "text", "zip", "nothing"]
)
def test_what_is_no_pickle_is_refused(content, tmp_path):
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(ValueError, match="it is truncated, damaged or not a pickle"):
        from_celltypist(tmp_path / "model.pkl")


def test_a_missing_file_is_told_with_where_celltypist_has_its_own(tmp_path):
    with pytest.raises(FileNotFoundError, match="No file found at .*none.pkl. Pass the path of a model, such as ~/"):
        from_celltypist(tmp_path / "none.pkl")


def test_a_file_that_is_cut_off_is_refused(path):
    data = path.read_bytes()
    for length in range(1, len(data), len(data) // 50):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="it is truncated, damaged or not a pickle"):
            from_celltypist(path)


def test_a_changed_byte_gives_a_clear_error_or_another_model(path):
    data, rng = path.read_bytes(), np.random.default_rng(0)
    messages = []
    for place in rng.integers(len(data), size=100):
        path.write_bytes(data[:place] + bytes([int(rng.integers(256))]) + data[place + 1 :])
        try:
            from_celltypist(path)
        except ValueError as error:  # and no other
            messages.append(str(error))
    assert len(messages) > 5
    assert all(str(path) in message for message in messages)


# ---- Beside CellTypist itself


@quiet
@pytest.mark.filterwarnings("default")
def test_celltypist_gives_the_same(path, query):
    celltypist = pytest.importorskip("celltypist")
    scanpy = pytest.importorskip("scanpy")
    normalized = ad.AnnData(query.X.copy(), obs=query.obs, var=pd.DataFrame(index=query.var_names))
    scanpy.pp.normalize_total(normalized, target_sum=1e4)
    scanpy.pp.log1p(normalized)
    found = celltypist.annotate(normalized, model=str(path))
    annotation, probabilities = annotate(from_celltypist(path), query, return_proba=True)
    np.testing.assert_allclose(probabilities, found.probability_matrix, atol=1e-9)
    np.testing.assert_array_equal(annotation["predicted_label"], found.predicted_labels["predicted_labels"])
