"""Model files: the same model again, and nothing of a file that is damaged or hostile."""

import gzip
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import joblib
import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.callback import ProgressBar
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_cells import (
    JSDivergenceSelector,
    KerasCellClassifier,
    LogNormalizer,
    RejectOptionClassifier,
    VarianceStabilizer,
    load_model,
    make_cell_pipeline,
    save_model,
)
from sklearn_cells._installed import installed_models
from sklearn_cells.neural_network import build_mlp
from sklearn_cells.persistence import ModelCard, _archive, _encoding, _upgrades, read_card, training_card
from sklearn_cells.persistence._archive import CARD, MANIFEST, MODEL, write_archive

DATA = Path(__file__).parent / "data"
SMALL = {"hidden_layer_sizes": (8,), "epochs": 3, "learning_rate": 0.02, "random_state": 0}
CNN = {"architecture": "cnn", "filters": (4, 8), "kernel_size": (3, 2), "padding": "same", "pool_size": 2}


def pipeline_of(**params):
    """A chain with a step for each kind of estimator."""
    steps = {"normalize": VarianceStabilizer(), "classify": KerasCellClassifier(**SMALL | params)}
    return make_cell_pipeline(select__n_features_to_select=20).set_params(**steps)


def saved_and_loaded(model, tmp_path):
    save_model(model, tmp_path / "again.cellmodel", overwrite=True)
    return load_model(tmp_path / "again.cellmodel")


@pytest.fixture(scope="module")
def labels(cells):
    return cells.obs["cell_type"].to_numpy(dtype=str)


@pytest.fixture(scope="module")
def fitted(cells, labels):
    return pipeline_of().fit(cells, labels)


@pytest.fixture(scope="module")
def values(cells):
    return LogNormalizer().fit_transform(cells.X)


@pytest.fixture(scope="module")
def model_file(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "blood.cellmodel"
    save_model(fitted, path, card={"name": "blood"})
    return path


@pytest.fixture
def small_file(tmp_path):
    """A file without a network, of a kilobyte."""
    path = tmp_path / "small.cellmodel"
    save_model(LogNormalizer().fit([[1.0, 4.0], [0.0, 2.0]]), path)
    return path


# ---- The same model again


def test_saved_models_predict_the_same_bits_in_a_new_process(cells, labels, fitted, tmp_path):
    cnn = pipeline_of(**CNN, input_norm=None, dropout=0.2).fit(cells, labels)
    bfloat = pipeline_of(dtype="mixed_bfloat16").fit(cells, labels)
    default = make_cell_pipeline(select__n_features_to_select=20, classify__epochs=2, classify__random_state=0)
    models = {"mlp": fitted, "cnn": cnn, "bfloat": bfloat, "default": default.fit(cells, labels)}
    for name, model in models.items():
        save_model(model, tmp_path / f"{name}.cellmodel")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    script = (
        "import numpy as np\n"
        "from sklearn_cells import load_model, read_cells\n"
        "cells = read_cells('cells.h5ad')\n"
        f"for name in {list(models)}:\n"
        "    np.save(name, load_model(name + '.cellmodel').predict_proba(cells))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == done.stdout == ""
    for name, model in models.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), model.predict_proba(cells))


def test_model_without_a_network_needs_no_tensorflow(cells, labels, tmp_path):
    steps = [("select", JSDivergenceSelector(10)), ("stabilize", VarianceStabilizer())]
    save_model(Pipeline(steps).fit(cells, labels), tmp_path / "transform.cellmodel")
    script = (
        "import sys\n"
        "from sklearn_cells import load_model, save_model\n"
        "save_model(load_model('transform.cellmodel'), 'again.cellmodel')\n"
        "print('tensorflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert (tmp_path / "again.cellmodel").read_bytes() == (tmp_path / "transform.cellmodel").read_bytes()


def test_parameters_and_attributes_come_back_as_they_were(fitted, model_file):
    loaded = load_model(model_file)
    assert repr(loaded.get_params()) == repr(fitted.get_params())
    for before, after in zip(fitted, loaded, strict=True):
        assert type(after) is type(before)
        made_later = {"_saved_network": "model_"}
        assert [made_later.get(name, name) for name in vars(after)] == list(vars(before))
        for name in sorted(vars(before).keys() - {"_table", "_compared", "_normalizer", "_input_norm", "model_"}):
            np.testing.assert_equal(getattr(after, name), getattr(before, name), err_msg=name)
            assert type(getattr(after, name)) is type(getattr(before, name)), name


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"bins": "auto"},
        {"bins": 4, "weights": "prior"},
        {"bias_correction": "permutation", "n_permutations": 50, "random_state": 0, "max_fdr": 0.05},
        {"bias_correction": "miller-madow"},
        {"redundancy": "cmim"},
    ],
)
@pytest.mark.filterwarnings("ignore:X holds neither counts nor log1p of counts")
def test_selector_ranks_and_explains_as_before(cells, labels, tmp_path, params):
    X = cells.X / 3 if "bins" in params else cells
    selector = JSDivergenceSelector(10, **params).fit(X, labels)
    loaded = saved_and_loaded(selector, tmp_path)
    assert loaded.gene_table().equals(selector.gene_table())
    np.testing.assert_array_equal(loaded.contributions_, selector.contributions_)
    np.testing.assert_array_equal(loaded.pvalues_, selector.pvalues_)
    np.testing.assert_array_equal(loaded.get_support(), selector.get_support())
    assert (loaded._compared is loaded._table) == (selector._compared is selector._table)


def test_selector_of_weighted_cells_comes_back(cells, labels, tmp_path):
    weights = np.random.default_rng(0).exponential(size=240)
    weights[labels == "type 2"] = 0
    selector = JSDivergenceSelector(10).fit(cells, labels, sample_weight=weights)
    selector.partial_fit(cells, labels, sample_weight=weights)
    assert saved_and_loaded(selector, tmp_path).gene_table().equals(selector.gene_table())


def test_selector_goes_on_counting(cells, labels, tmp_path):
    selector = JSDivergenceSelector(10).fit(cells[:120], labels[:120])
    loaded = saved_and_loaded(selector, tmp_path).partial_fit(cells[120:], labels[120:])
    np.testing.assert_array_equal(loaded.divergences_, JSDivergenceSelector(10).fit(cells, labels).divergences_)


@pytest.mark.parametrize("steps_before", [0, 2])
def test_classifier_goes_on_learning(values, labels, tmp_path, steps_before):
    classifier = KerasCellClassifier(**SMALL).fit(values, labels)
    for _ in range(steps_before):
        classifier.partial_fit(values, labels)
    loaded = saved_and_loaded(classifier, tmp_path)
    classifier.partial_fit(values, labels)
    loaded.partial_fit(values, labels)
    np.testing.assert_array_equal(loaded.predict_proba(values), classifier.predict_proba(values))
    assert loaded.history_ == classifier.history_


def test_warm_start_goes_on_from_the_file(values, labels, tmp_path):
    classifier = KerasCellClassifier(**SMALL, warm_start=True).fit(values, labels)
    loaded = saved_and_loaded(classifier, tmp_path)
    np.testing.assert_array_equal(
        loaded.fit(values, labels).predict_proba(values), classifier.fit(values, labels).predict_proba(values)
    )


@pytest.mark.parametrize(
    "of_codes",
    [
        lambda codes: codes,
        lambda codes: codes > 0,
        lambda codes: np.array(["B", "T", "NK cell, β"], dtype=object)[codes],
    ],
    ids=["integers", "booleans", "objects"],
)
def test_labels_of_all_kinds_come_back(values, labels, tmp_path, of_codes):
    y = of_codes(np.unique(labels, return_inverse=True)[1])
    classifier = KerasCellClassifier(**SMALL, class_weight=dict.fromkeys(np.unique(y), 2.0)).fit(values, y)
    loaded = saved_and_loaded(classifier, tmp_path)
    assert loaded.classes_.dtype == classifier.classes_.dtype
    assert loaded.class_weight == classifier.class_weight
    np.testing.assert_array_equal(loaded.predict(values), classifier.predict(values))


def test_values_of_all_kinds_come_back_of_the_same_type():
    values = {
        "plain": [None, True, 3, -0.0, 1e-300, "β", float("inf"), -float("inf")],
        "numpy": (np.float32(0.1), np.int8(3), np.bool_(True), np.str_("B"), np.float64("inf")),
        ("a", 1): {2: [], 3.5: ()},
        "arrays": [np.arange(6, dtype=np.uint8).reshape(2, 3).T, np.array(["B", "T"]), np.zeros((0, 3)), np.array(5.0)],
        "objects": np.array(["B", 1, None, 2.5], dtype=object),
        "frame": pd.DataFrame({"gene": ["CD3E", "CD74"], "risk": [0.25, np.nan], "rank": [1, 2]}),
    }
    encoder = _encoding.Encoder()
    content = json.loads(json.dumps(encoder.value(values, "values"), allow_nan=False))
    again = _encoding.decode(content, encoder.arrays.__getitem__)
    assert repr(again) == repr(values)
    assert again["arrays"][0].dtype == np.uint8
    pd.testing.assert_frame_equal(again["frame"], values["frame"])
    assert np.isnan(_encoding.decode(encoder.value(float("nan"), "nan"), None))


def test_array_that_two_attributes_share_is_in_the_file_once():
    encoder, array = _encoding.Encoder(), np.arange(3)
    assert encoder.value([array, array, array.copy()], "") == [{"array": 0}, {"array": 0}, {"array": 1}]


def test_same_model_and_card_give_the_same_bytes(fitted, model_file, tmp_path):
    save_model(fitted, tmp_path / "second.cellmodel", card={"name": "blood"})
    assert (tmp_path / "second.cellmodel").read_bytes() == model_file.read_bytes()
    loaded = load_model(model_file)
    save_model(loaded, tmp_path / "third.cellmodel", card=loaded.card_)
    assert (tmp_path / "third.cellmodel").read_bytes() == model_file.read_bytes()


class Wrapper(BaseEstimator):
    """An estimator that holds others, fitted and not."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y=None):
        self.estimator_ = clone(self.estimator).fit(X, y)
        self.threshold_ = np.float64(0.5)
        return self


def test_another_estimator_is_one_line_more(fitted, cells, labels, tmp_path, monkeypatch):
    monkeypatch.setitem(_encoding.ESTIMATORS, "Wrapper", __name__)
    wrapper = Wrapper(pipeline_of()).fit(cells, labels)
    loaded = saved_and_loaded(wrapper, tmp_path)
    assert not hasattr(loaded.estimator["classify"], "model_")
    assert loaded.threshold_ == 0.5
    np.testing.assert_array_equal(loaded.estimator_.predict_proba(cells), fitted.predict_proba(cells))


def test_frozen_model_is_saved_too(fitted, cells, tmp_path):
    loaded = saved_and_loaded(FrozenEstimator(fitted), tmp_path)
    assert type(loaded) is FrozenEstimator
    np.testing.assert_array_equal(loaded.predict_proba(cells), fitted.predict_proba(cells))


def test_model_that_says_unassigned_keeps_its_threshold_and_curve(cells, labels, tmp_path):
    model = RejectOptionClassifier(pipeline_of(), target_coverage=0.8, cv=2).fit(cells, labels)
    loaded = saved_and_loaded(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(cells), model.predict_proba(cells))
    np.testing.assert_array_equal(loaded.predict(cells), model.predict(cells))
    assert "Unassigned" in loaded.predict(cells)
    pd.testing.assert_frame_equal(loaded.risk_coverage_, model.risk_coverage_)
    assert loaded.calibration_error_ == model.calibration_error_


def test_model_of_the_first_format_loads_and_predicts_as_then():
    loaded, expected = load_model(DATA / "model_v1.cellmodel"), np.load(DATA / "model_v1_expected.npz")
    counts = pd.DataFrame(expected["counts"], columns=expected["gene_names"], dtype=np.float32)
    # TensorFlow versions round differently.
    np.testing.assert_allclose(loaded.predict_proba(counts), expected["probabilities"], rtol=0, atol=1e-6)
    table = loaded["select"].gene_table()
    assert table["gene"].tolist() == expected["ranked"].tolist()
    np.testing.assert_allclose(loaded["select"].pvalues_, expected["pvalues"], rtol=1e-9)
    assert loaded.card_["cells"] == 120


def test_attributes_of_the_first_format_are_those_of_today(fitted):
    for old, new in zip(load_model(DATA / "model_v1.cellmodel"), fitted, strict=True):
        assert vars(old).keys() == vars(new).keys(), "an attribute was renamed: add a step to _upgrades"


def test_installed_models_load_predict_and_are_saved_as_files_of_today(zheng_sorted, tmp_path):
    for name, path in installed_models().items():
        model = load_model(name)
        accuracy = np.mean(model.predict(zheng_sorted[::20]) == zheng_sorted.obs["cell_type"][::20])
        assert accuracy > 0.7
        save_model(model, tmp_path / path.name, card=model.card_)
        assert contents_of(tmp_path / path.name)[1]["format_version"] == _archive.FORMAT_VERSION
        again = load_model(tmp_path / path.name)
        np.testing.assert_array_equal(again.predict_proba(zheng_sorted[:20]), model.predict_proba(zheng_sorted[:20]))


def test_shares_of_genes_that_the_first_format_lacks_come_from_its_counts(fitted):
    found, expected = _upgrades._gene_shares(fitted["select"], fitted["normalize"]), fitted["normalize"].gene_shares_
    assert found.keys() == expected.keys()
    for name in ("counts", "sqrt"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    for name in ("linear", "log1p"):  # as if all cells of a class had the same depth
        np.testing.assert_allclose(found[name], expected[name], rtol=0.25, atol=0.005)


def test_models_of_the_first_format_know_the_means_of_genes_that_a_query_lacks(zheng_sorted):
    cells, labels = zheng_sorted[::10].copy(), zheng_sorted.obs["cell_type"][::10]
    ribosomal = cells.var_names.str.match(r"RP[LS]\d")
    with pytest.warns(UserWarning, match="The cells lack"):
        found = load_model("sorted_blood").predict_proba(cells[:, ~ribosomal])
    assert np.mean(np.sort(labels.unique())[found.argmax(axis=1)] == labels) > 0.9  # .6 with zeros


def test_what_an_older_format_held_is_dropped_or_renamed_where_a_step_says_so(forged):
    def add(parameters):
        def change(content):
            steps_of(content)["align"]["parameters"] |= parameters

        return change

    loaded = load_model(forged(add({"min_coverage": 0.2, "warn_coverage": 0.8}), format_version=1))
    assert not hasattr(loaded["align"], "min_coverage")
    with pytest.raises(ValueError, match="unexpected keyword argument 'spline'"):
        load_model(forged(add({"spline": 3}), format_version=1))
    with pytest.raises(ValueError, match="unexpected keyword argument 'min_coverage'"):
        load_model(forged(add({"min_coverage": 0.2})))


# ---- Damaged files


def flipped(data, position, bit):
    return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]


def test_a_flipped_bit_is_refused_wherever_it_is(small_file):
    data = small_file.read_bytes()
    size = len(data)
    assert size < 2000
    positions = [(position, position % 8) for position in range(size)]
    positions += [(position, bit) for position in [*range(8), *range(size - 70, size)] for bit in range(8)]
    for position, bit in positions:
        small_file.write_bytes(flipped(data, position, bit))
        with pytest.raises(ValueError, match=r"small\.cellmodel is damaged"):
            read_card(small_file)


def test_a_flipped_bit_of_a_network_is_refused(model_file, tmp_path):
    data = model_file.read_bytes()
    path = tmp_path / "flipped.cellmodel"
    for position in np.random.default_rng(0).integers(len(data), size=300):
        path.write_bytes(flipped(data, int(position), int(position) % 8))
        with pytest.raises(ValueError, match=r"flipped\.cellmodel is damaged"):
            load_model(path)


def test_a_file_that_is_cut_or_longer_is_refused(small_file):
    data = small_file.read_bytes()
    for wrong in [data[:-1], data[: len(data) // 2], data[:60], data + b"\0", data + data]:
        small_file.write_bytes(wrong)
        with pytest.raises(ValueError, match="is damaged: its .* bytes do not match its checksum"):
            load_model(small_file)


def test_swapped_members_are_refused_by_their_checksums(model_file, tmp_path):
    content, manifest = contents_of(model_file)
    content["arrays/1.npy"], content["arrays/2.npy"] = content["arrays/2.npy"], content["arrays/1.npy"]
    path = tmp_path / "swapped.cellmodel"
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in {**content, MANIFEST: manifest}.items():
            data = _archive._npy(member) if isinstance(member, np.ndarray) else _archive._json(member)
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.comment = _archive.SIGNATURE + b"0" * 64
    sign(path)
    with pytest.raises(ValueError, match=r"The checksum of arrays/1\.npy does not match"):
        load_model(path)


def joblib_bytes(**kwargs):
    buffer = io.BytesIO()
    joblib.dump(LogNormalizer(), buffer, **kwargs)
    return buffer.getvalue()


def zip_bytes():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (joblib_bytes(), "seems to be a pickle, perhaps from joblib.dump. joblib.load"),
        (joblib_bytes(compress=3), "seems to be a compressed file, perhaps from joblib.dump"),
        (gzip.compress(joblib_bytes()), "seems to be a compressed file, perhaps from joblib.dump"),
        (
            b"\x89HDF\r\n\x1a\n" + b"\0" * 200,
            r"seems to be HDF5, such as cells \(.h5ad, .* Keras model \(.h5, for KerasCellClassifier.from_keras\)",
        ),
        (
            zip_bytes(),
            r"seems to be another zip archive, such as a Keras model \(.keras, for KerasCellClassifier.from_keras\)",
        ),
        (b"gene,cell\n" * 50, "expected a file written by save_model"),
    ],
    ids=["empty", "pickle", "compressed pickle", "gzip", "HDF5", "zip", "text"],  # contents hold the time
)
def test_other_files_are_named_for_what_they_seem_to_be(tmp_path, content, message):
    path = tmp_path / "other.cellmodel"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"other\.cellmodel is not a model file of sklearn_cells: .*{message}"):
        load_model(path)


@pytest.mark.parametrize("name", ["model.joblib", "model.PKL", "model.pickle", "model.pkl.gz"])
def test_the_name_of_a_pickle_is_refused(fitted, tmp_path, name):
    better = re.escape(str(tmp_path / "model.cellmodel"))
    with pytest.raises(ValueError, match=rf"has the extension of a pickle; .* Use {better}, or call joblib\.dump"):
        save_model(fitted, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_other_objects_than_a_path_are_refused(small_file):
    with pytest.raises(TypeError, match="Expected the path of a model file, .* got NoneType"):
        load_model(None)
    with pytest.raises(TypeError, match="Expected sha256 as a str of 64 hexadecimal digits, got int"):
        load_model(small_file, sha256=5)


def test_missing_file_and_folder_are_told_apart(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"No model file found at .*blood\.cellmodel\. Pass .* installed model: sorted_blood\."
    ):
        load_model(tmp_path / "blood.cellmodel")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_model(tmp_path)


def test_newer_format_says_what_to_upgrade(small_file, monkeypatch):
    content, manifest = contents_of(small_file)
    monkeypatch.setattr(_archive, "FORMAT_VERSION", 3)
    write_archive(small_file, content.items(), {"versions": manifest["versions"] | {"sklearn_cells": "0.4.0"}})
    monkeypatch.undo()
    expected = r"small\.cellmodel has format 3, written by sklearn_cells 0\.4\.0; this version \(.*\) reads up to 2"
    with pytest.raises(ValueError, match=expected):
        load_model(small_file)


# ---- Hostile files: their checksums are right


def contents_of(path):
    """Return the members of a file, and its manifest."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name != MANIFEST]
        content = {
            name: np.load(io.BytesIO(archive.read(name))) if name.endswith("npy") else json.loads(archive.read(name))
            for name in names
        }
        return content, json.loads(archive.read(MANIFEST))


def sign(path):
    """Put the right checksum at the end of a file."""
    with open(path, "r+b") as file:
        digits = _archive._digits(file)
        file.seek(-64, os.SEEK_END)
        file.write(digits)


@pytest.fixture
def forged(model_file, tmp_path):
    """Return a function that changes the model of a file, and the checksums with it."""

    def forge(change, **more):
        content, manifest = contents_of(model_file)
        change(content)
        manifest = {"versions": manifest["versions"], **more}
        write_archive(tmp_path / "forged.cellmodel", content.items(), manifest)
        return tmp_path / "forged.cellmodel"

    return forge


def steps_of(content):
    return dict(pair["tuple"] for pair in content[MODEL]["parameters"]["steps"])


def test_forging_alone_changes_nothing(forged, fitted, cells):
    path = forged(lambda content: None)
    np.testing.assert_array_equal(load_model(path).predict_proba(cells), fitted.predict_proba(cells))


def rename(content):
    steps_of(content)["normalize"]["estimator"] = "FunctionTransformer"


def cache(content):
    content[MODEL]["parameters"]["memory"] = "folder_of_pickles"


def cache_later(content):
    content[MODEL]["fitted"]["memory"] = "folder_of_pickles"


def lambda_layer(content):
    config = {"dict": [["class_name", "function"], ["config", "system"], ["module", "os"]]}
    steps_of(content)["classify"]["parameters"]["activation"] = config


def giant(content):
    steps_of(content)["classify"]["parameters"]["hidden_layer_sizes"] = [10**12]


def giant_kernel(content):
    steps_of(content)["classify"]["parameters"] |= {
        "architecture": "cnn",
        "filters": [8],
        "kernel_size": 10**12,
        "padding": "same",
        "pool_size": 1,
    }


def many_genes(content):
    steps_of(content)["classify"]["fitted"]["n_features_in_"] = 10**15


def unknown_parameter(content):
    steps_of(content)["align"]["parameters"]["spline"] = 3


def unknown_value(content):
    content[MODEL]["fitted"]["wheel"] = {"bytes": "cos\nsystem"}


def no_estimator(content):
    content[MODEL] = {"dict": []}


def table_with(change):
    def apply(content):
        table = dict(steps_of(content)["select"]["fitted"]["_table"]["dict"])
        change(
            content, {name: f"arrays/{value['array']}.npy" for name, value in table.items() if "array" in str(value)}
        )

    return apply


def gene_beyond(content, names):
    content[names["keys"]] = content[names["keys"]] * 2**10


def unsorted_keys(content, names):
    content[names["keys"]] = content[names["keys"]][::-1]


def too_many_cells(content, names):
    content[names["n_cells"]] = content[names["n_cells"]] * 1e6


def other_dtype(content, names):
    content[names["keys"]] = content[names["keys"]].astype(np.float64)


def unsorted_classes(content):
    name = f"arrays/{steps_of(content)['select']['fitted']['classes_']['array']}.npy"
    content[name] = content[name][::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "holds an estimator 'FunctionTransformer'; expected one of"),
        (cache, r"memory='folder_of_pickles' cannot be stored in a model file"),
        (cache_later, "Some parameters of CellPipeline are stored as fitted attributes"),
        (lambda_layer, "'activation' parameter of KerasCellClassifier must be an instance of 'str'"),
        (giant, "shapes of the weights do not match the parameters"),
        (giant_kernel, "shapes of the weights do not match the parameters"),
        (many_genes, "shapes of the weights do not match the parameters"),
        (unknown_parameter, "unexpected keyword argument 'spline'"),
        (unknown_value, "a value of an unknown kind, 'bytes'"),
        (no_estimator, "It holds no estimator"),
        (table_with(gene_beyond), "The stored count table does not fit"),
        (table_with(unsorted_keys), "The stored count table does not fit"),
        (table_with(too_many_cells), "The stored count table does not fit"),
        (table_with(other_dtype), "The stored count table does not fit"),
        (unsorted_classes, "classes are not sorted"),
    ],
)
def test_forged_model_is_refused(forged, change, message):
    with pytest.raises(
        ValueError, match=rf"forged\.cellmodel is intact, but sklearn_cells .* cannot load its content: .*{message}"
    ):
        load_model(forged(change))


class Dangerous:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def archive_of(path, members, **options):
    """Write an archive of any bytes, with the right checksums."""
    checksums = {name: _archive.hashlib.sha256(data).hexdigest() for name, data in members.items()}
    manifest = {"format_version": 2, "versions": {"sklearn_cells": "0.1.0"}, "members": checksums}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in {**members, MANIFEST: _archive._json(manifest)}.items():
            archive.writestr(name, data)
        archive.comment = _archive.SIGNATURE + b"0" * 64
    sign(path)


ONE_ARRAY = json.dumps({"array": 0}).encode()


def test_pickled_array_is_not_unpickled(tmp_path):
    payload = np.array([Dangerous(str(tmp_path / "made"))], dtype=object)
    buffer = io.BytesIO()
    np.save(buffer, payload, allow_pickle=True)
    path = tmp_path / "pickled.cellmodel"
    archive_of(path, {MODEL: ONE_ARRAY, "arrays/0.npy": buffer.getvalue()})
    with pytest.raises(ValueError, match=r"An array of dtype object and shape \(1,\) does not match its \d+ bytes"):
        load_model(path)
    assert not (tmp_path / "made").exists()
    pickle.loads(pickle.dumps(payload))  # it would have been
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("shape", [(2**40,), (3,), (2**62, 4)])
@pytest.mark.parametrize("dtype", ["<f8", "<U0", "|V0", "|S1", "<M8[s]"])
def test_array_that_is_not_what_its_header_says_is_refused(tmp_path, shape, dtype):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    path = tmp_path / "array.cellmodel"
    archive_of(path, {MODEL: ONE_ARRAY, "arrays/0.npy": buffer.getvalue() + b"\0" * 16})
    with pytest.raises(ValueError, match=r"array\.cellmodel is intact, but .*does not match its .* bytes"):
        load_model(path)


def test_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "MAX_SIZE", 2**16)
    path = tmp_path / "bomb.cellmodel"
    archive_of(path, {MODEL: ONE_ARRAY, "arrays/0.npy": b"\0" * 2**22}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"bytes unpack to 4194\d+ bytes, more than the \d+ allowed"):
        load_model(path)
    monkeypatch.undo()
    archive_of(path, {MODEL: b" " * (2**25 + 1)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"model\.json unpacks to 33554433 bytes, more than the 33554432 allowed"):
        load_model(path)
    archive_of(path, {MODEL: ONE_ARRAY}, compression=zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match="is not compressed with deflate"):
        load_model(path)


def test_values_nested_without_end_are_refused(tmp_path):
    path = tmp_path / "nested.cellmodel"
    for nested in [b"[" * 10**5 + b"]" * 10**5, b'{"tuple":[' * 450 + b"]}" * 450]:
        archive_of(path, {MODEL: nested})
        with pytest.raises(
            ValueError, match=r"nested\.cellmodel is intact, but .*(RecursionError|It holds no estimator)"
        ):
            load_model(path)


def test_names_that_point_elsewhere_write_nothing(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    content = {"estimator": "LogNormalizer", "parameters": {}, "fitted": {"target_sum_": None}}
    members = {MODEL: _archive._json(content), CARD: b"{}", "../outside.txt": b"text", "/etc/outside.txt": b"text"}
    archive_of(folder / "model.cellmodel", members)
    assert load_model(folder / "model.cellmodel").target_sum_ is None
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "model.cellmodel"]


# ---- What is not saved


def test_what_a_file_cannot_hold_is_refused_by_step_and_parameter(cells, labels, values, tmp_path):
    def refused(model, message):
        with pytest.raises(TypeError, match=message):
            save_model(model, tmp_path / "refused.cellmodel")

    scaler = Pipeline([("log", LogNormalizer()), ("scale", StandardScaler(with_mean=False))]).fit(cells.X)
    refused(scaler, "step 'scale' is of type sklearn.preprocessing._data.StandardScaler.*joblib.dump")
    optimizer = pipeline_of(optimizer=partial(keras.optimizers.SGD, momentum=0.9)).fit(cells, labels)
    refused(optimizer, "parameter 'optimizer' of step 'classify' is of type functools.partial.*joblib.dump")
    seeded = JSDivergenceSelector(10, random_state=np.random.RandomState(0)).fit(cells, labels)
    refused(seeded, "parameter 'random_state' of JSDivergenceSelector is of type numpy.random.*RandomState")
    search = GridSearchCV(LogNormalizer(), {"target_sum": [10]}, scoring=lambda *_: 0, cv=2).fit(cells.X)
    refused(search, "GridSearchCV is of type .* For a search, save its best_estimator_")
    own = KerasCellClassifier(partial(build_mlp, seed=0), **SMALL).fit(values, labels)
    refused(own, r"built by a function, loaded from Keras.*joblib\.dump.*model_\.save\('network\.keras'\)")
    assert list(tmp_path.iterdir()) == []


class NormalizerOfMyOwn(LogNormalizer):
    """A subclass, whose code is not in sklearn_cells."""


def test_subclass_of_a_known_estimator_is_refused(tmp_path):
    NormalizerOfMyOwn.__name__ = "LogNormalizer"
    with pytest.raises(TypeError, match="which cannot be stored in a model file"):
        save_model(NormalizerOfMyOwn().fit([[1.0]]), tmp_path / "own.cellmodel")


def test_network_that_the_parameters_do_not_describe_is_refused(values, labels, tmp_path):
    network = build_mlp(values.shape[1], 3, hidden_layer_sizes=(5, 4), seed=0)
    classifier = KerasCellClassifier.from_keras(network, classes=["B", "NK", "T"])
    with pytest.raises(TypeError, match="cannot be rebuilt from its parameters"):
        save_model(classifier, tmp_path / "keras.cellmodel")
    for changed in [{"activation": "gelu"}, {"hidden_layer_sizes": (8, 8)}, {"dtype": "mixed_bfloat16"}, CNN]:
        classifier = KerasCellClassifier(**SMALL).fit(values, labels).set_params(**changed)
        with pytest.raises(TypeError, match="parameters were set after fit"):
            save_model(classifier, tmp_path / "changed.cellmodel")


def test_network_of_keras_that_the_parameters_describe_is_saved(values, tmp_path):
    classes = ["T", "B", "NK"]  # outputs in another order than sorted
    classifier = KerasCellClassifier.from_keras(build_mlp(values.shape[1], 3, seed=0), classes=classes)
    with pytest.raises(TypeError, match="built by a function, loaded from Keras"):
        save_model(classifier, tmp_path / "keras.cellmodel")
    classifier.set_params(architecture="mlp")
    loaded = saved_and_loaded(classifier, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(values), classifier.predict_proba(values))


def test_pipeline_that_caches_is_refused(cells, labels, tmp_path):
    pipeline = Pipeline([("log", LogNormalizer())], memory=str(tmp_path / "cache")).fit(cells.X)
    with pytest.raises(ValueError, match=r"memory=.*set_params\(memory=None\)"):
        save_model(pipeline, tmp_path / "cached.cellmodel")


def test_callbacks_are_left_out(tmp_path):
    pipeline = Pipeline([("log", LogNormalizer())]).fit([[1.0]]).set_callbacks(ProgressBar())
    assert "_skl_callbacks" not in vars(saved_and_loaded(pipeline, tmp_path))


def test_model_that_is_not_fitted_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        save_model(make_cell_pipeline(), tmp_path / "unfitted.cellmodel")


def test_older_file_is_kept_unless_told_otherwise(fitted, small_file):
    data = small_file.read_bytes()
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        save_model(fitted, small_file)
    assert small_file.read_bytes() == data
    save_model(fitted, small_file, overwrite=True)
    assert small_file.read_bytes() != data


# ---- Nothing half-written

STOPS_IN_THE_MIDDLE = """
import time, zipfile
from sklearn_cells import LogNormalizer, save_model

write = zipfile.ZipFile.writestr

def stop_at_the_card(archive, info, *args):
    write(archive, info, *args)
    if info.filename == "card.json":
        print("in the middle", flush=True)
        time.sleep(600)

zipfile.ZipFile.writestr = stop_at_the_card
save_model(LogNormalizer(target_sum=5).fit([[1.0]]), "small.cellmodel", overwrite=True)
"""


def test_process_killed_while_saving_leaves_the_old_model(small_file):
    data = small_file.read_bytes()
    command, folder = [sys.executable, "-c", STOPS_IN_THE_MIDDLE], small_file.parent
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in the middle\n"
        os.kill(process.pid, signal.SIGKILL)
    assert small_file.read_bytes() == data
    assert load_model(small_file).target_sum_ == 3.5
    others = [path.name for path in folder.iterdir() if path != small_file]
    assert len(others) == 1
    assert others[0].startswith(".small.cellmodel.")


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_full_disk_and_interrupt_leave_the_old_model(small_file, monkeypatch, error):
    data = small_file.read_bytes()

    def fails(*args):
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fails)
    with pytest.raises(type(error)):
        save_model(LogNormalizer().fit([[1.0]]), small_file, overwrite=True)
    assert [path.name for path in small_file.parent.iterdir()] == ["small.cellmodel"]
    assert small_file.read_bytes() == data


# ---- The card


def test_card_comes_with_the_model_and_alone(model_file):
    card = load_model(model_file).card_
    assert card["name"] == "blood"
    assert card["versions"].keys() == {"sklearn_cells", "scikit-learn", "numpy", "keras", "tensorflow"}
    assert card == read_card(model_file)


def test_card_tells_cells_classes_and_scores(cells, labels):
    card = training_card(small_pipeline(), cells, labels, cv=3, random_state=0, name="simulated", license="CC0")
    assert (card["cells"], card["genes"]) == (240, 60)
    assert card["classes"] == dict(zip(*map(np.ndarray.tolist, np.unique(labels, return_counts=True)), strict=True))
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(small_pipeline(), cells, labels, cv=folds)
    assert card["scores"]["accuracy"] == {"mean": scores.mean(), "folds": scores.tolist()}
    assert 0 < card["scores"]["macro_f1"]["mean"] <= 1
    assert card["date"].endswith("+00:00")
    assert json.loads(json.dumps(card)) == card
    shown = str(card)
    for line in ["simulated", "cells    240", "genes    60", "type 1 (", "license  CC0", "accuracy ", "in 3 folds"]:
        assert line in shown
    assert "description" not in card


def small_pipeline():
    return Pipeline([("log", LogNormalizer()), ("classify", KerasCellClassifier(**SMALL))])


def test_scores_of_a_card_are_those_as_if_all_cells_were_assigned(cells, labels):
    steps = JSDivergenceSelector(20), LogNormalizer("as_is"), LogisticRegression()
    cards = [
        training_card(make_pipeline(*steps[:2], model), cells, labels, cv=3, random_state=0)
        for model in (steps[-1], RejectOptionClassifier(steps[-1], threshold=1, calibration=None))
    ]
    assert cards[0]["scores"] == cards[1]["scores"]
    assert cards[0]["scores"]["accuracy"]["mean"] > 0.5


def test_card_of_a_fitted_model_leaves_it_as_it_is(cells, labels, fitted):
    before = fitted.predict_proba(cells)
    training_card(fitted, cells, labels, cv=2)
    np.testing.assert_array_equal(fitted.predict_proba(cells), before)


def test_a_model_without_a_card_gets_one_of_what_it_knows(cells, labels, tmp_path):
    chain = make_pipeline(JSDivergenceSelector(20), LogNormalizer("as_is"), KerasCellClassifier(**SMALL))
    model = RejectOptionClassifier(chain, target_coverage=0.9, cv=3, random_state=0).fit(cells.X, labels)
    save_model(model, tmp_path / "a.cellmodel")
    card, expected = read_card(tmp_path / "a.cellmodel"), training_card(model, cells.X, labels)
    for key in ("cells", "genes", "classes", "scores", "rejection", "validation"):
        assert card[key] == expected[key]
    assert card["scores"]["accuracy"]["folds"] == model.held_out_scores_["accuracy"]
    assert card["rejection"]["threshold"] == model.threshold_
    assert set(card) - set(expected) == {"versions"}
    save_model(model, tmp_path / "b.cellmodel")
    assert (tmp_path / "a.cellmodel").read_bytes() == (tmp_path / "b.cellmodel").read_bytes()
    save_model(model, tmp_path / "empty.cellmodel", card={})
    assert read_card(tmp_path / "empty.cellmodel").keys() == {"versions"}


def test_a_card_says_no_more_than_the_model_knows(cells, labels, tmp_path):
    models = {
        "a": (KerasCellClassifier(**SMALL).fit(cells.X, labels), {"classes", "genes"}),
        "b": (LogNormalizer().fit(cells.X), set()),
        "c": (JSDivergenceSelector(20).fit(cells.X, labels), {"cells", "classes", "genes"}),
        "d": (JSDivergenceSelector(20).fit(cells.X, labels, sample_weight=np.full(240, 0.3)), {"classes", "genes"}),
    }
    for name, (model, keys) in models.items():
        save_model(model, tmp_path / f"{name}.cellmodel")
        assert read_card(tmp_path / f"{name}.cellmodel").keys() == keys | {"versions"}
    card = read_card(tmp_path / "a.cellmodel")
    assert card.rows()["classes"] == f"3: {', '.join(np.unique(labels))}"


def test_a_loaded_model_keeps_its_card_until_it_is_trained_on(cells, labels, tmp_path):
    selector = JSDivergenceSelector(20).fit(cells.X[:200], labels[:200])
    card = training_card(make_pipeline(selector, LogisticRegression()), cells.X[:200], labels[:200], name="three", cv=2)
    save_model(selector, tmp_path / "a.cellmodel", card=card)
    loaded = load_model(tmp_path / "a.cellmodel")
    save_model(loaded, tmp_path / "b.cellmodel")
    assert read_card(tmp_path / "b.cellmodel") == loaded.card_
    loaded.partial_fit(cells.X[200:], labels[200:])
    save_model(loaded, tmp_path / "c.cellmodel")
    new = read_card(tmp_path / "c.cellmodel")
    assert new["cells"] == 240
    assert "name" not in new


def test_a_card_fits_nothing_again_that_held_cells_out(cells, labels, monkeypatch):
    model = RejectOptionClassifier(LogisticRegression(), cv=3, random_state=0).fit(cells.X, labels)
    search = GridSearchCV(RejectOptionClassifier(LogisticRegression(), cv=3), {"estimator__C": [0.1, 1]}, cv=2)
    search.fit(cells.X, labels)
    with monkeypatch.context() as patch:
        patch.setattr("sklearn_cells.persistence._card.cross_validate", None)
        for fitted in (model, FrozenEstimator(model), search):
            card = training_card(fitted, cells.X, labels)
            expected = getattr(fitted, "best_estimator_", model).held_out_scores_
            assert card["scores"]["accuracy"]["folds"] == expected["accuracy"]
    assert card["validation"] == "3 folds, after a search on the same cells"


def test_the_card_of_a_frozen_model_has_scores_of_held_out_cells(cells, labels):
    noise = np.random.default_rng(0).permutation(labels)
    tree = DecisionTreeClassifier(random_state=0).fit(cells.X, noise)
    assert tree.score(cells.X, noise) == 1
    card = training_card(FrozenEstimator(tree), cells.X, noise, cv=3, random_state=0)
    assert card["scores"]["accuracy"]["mean"] < 0.6


def test_class_with_fewer_cells_than_folds_is_named(cells, labels):
    few = np.append(labels[:30], "rare")
    with pytest.raises(ValueError, match="5 folds need 5 cells of each class, but 'rare' has 1"):
        training_card(small_pipeline(), cells[:31], few)


def test_values_that_are_not_of_json_are_refused(tmp_path):
    for wrong in [{"cells": np.int64(3)}, {"score": float("nan")}, {"genes": {"CD3E"}}]:
        with pytest.raises(TypeError, match="card must hold only JSON values"):
            save_model(LogNormalizer().fit([[1.0]]), tmp_path / "card.cellmodel", card=wrong)


def test_card_of_anything_can_be_shown():
    assert str(ModelCard()) == "Unnamed model"
    assert "macro_f1 0.500 in 2 folds, 0.400 to 0.600" in str(
        ModelCard(scores={"macro_f1": {"mean": 0.5, "folds": [0.4, 0.6]}})
    )
