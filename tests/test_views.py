"""Networks of counts: what they see, simulated laboratories, and the home network."""

from copy import copy

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf

from sklearn_cells import KerasCellClassifier, annotate, make_cell_pipeline
from sklearn_cells._cells import check_cells
from sklearn_cells._presets import ANY_LABORATORY
from sklearn_cells.datasets import make_cells
from sklearn_cells.neural_network._count_views import CountViews
from sklearn_cells.neural_network._gate import ExperimentGate
from sklearn_cells.neural_network._laboratory import Laboratory
from sklearn_cells.neural_network._novelty import _axes, _logs
from sklearn_cells.neural_network._views import factor_loadings, programs

COUNTS = np.array([[4.0, 0.0, 6.0], [1.0, 3.0, 0.0], [0.0, 2.0, 8.0], [5.0, 5.0, 0.0]], dtype=np.float32)
SMALL = ANY_LABORATORY | {"hidden_layer_sizes": (16,), "random_state": 0}


def measured(kind, counts=COUNTS, **noise):
    layer = CountViews(kind, seed=0, **noise)
    layer.build(counts.shape)
    cells = check_cells(counts, dtype=np.float32, allow_nan=True)
    layer.measure(cells, np.ones(len(counts)), np.arange(len(counts)) % 2, 15.0)
    return layer


def output(layer, counts, **options):
    return np.asarray(layer(counts, **options))


def test_depth_free_views_by_hand():
    layer = measured("depth_free")
    scaled = COUNTS / COUNTS.sum(axis=1, keepdims=True)
    assert float(layer.depth) == 10  # the median of 10, 4, 10 and 10
    views = [np.log1p(10_000 * scaled), np.sqrt(10 * scaled + 1) - 1]
    factors = [15 * np.sqrt(part / view.var(axis=0).sum()) for part, view in zip((0.75, 0.25), views, strict=True)]
    expected = np.hstack([(view - view.mean(axis=0)) * factor for view, factor in zip(views, factors, strict=True)])
    np.testing.assert_allclose(output(layer, COUNTS), expected, rtol=1e-3, atol=1e-3)


def test_views_of_the_home_network_are_centred_and_have_their_parts_of_the_variance():
    counts = make_cells(200, 40, n_classes=2, random_state=0).X.toarray()
    seen = output(measured("all", counts), counts)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-3)
    parts = seen.var(axis=0).reshape(3, 40).sum(axis=1) / 15**2
    np.testing.assert_allclose(parts, [0.4, 0.2, 0.4], rtol=1e-3)


@pytest.mark.parametrize("kind", ["depth_free", "all"])
def test_a_gene_that_was_not_measured_is_expected_from_the_others_and_does_not_inflate_them(kind):
    counts = make_cells(300, 30, n_classes=2, random_state=0).X.toarray() + 1
    layer = measured(kind, counts)
    missing, zero = counts.copy(), counts.copy()
    missing[:, 4], zero[:, 4] = np.nan, 0
    complete, found, as_zero = (output(layer, X).reshape(len(counts), -1, 30) for X in (counts, missing, zero))
    error, error_of_mean = np.abs(found - complete)[:, :, 4].mean(), np.abs(complete[:, :, 4]).mean()
    assert error < error_of_mean
    others = np.arange(30) != 4
    error, error_of_zero = (np.abs(X - complete)[:, :, others].mean() for X in (found, as_zero))
    assert error < error_of_zero / 2


@pytest.mark.parametrize("kind", ["depth_free", "all"])
def test_expected_views_against_the_formula(kind):
    """Cells in which the same genes are missing, and cells that differ, give the same."""
    counts = make_cells(200, 30, n_classes=2, random_state=0).X.toarray() + 1
    layer = measured(kind, counts)
    missing = np.zeros((4, 30), dtype=bool)
    missing[:, :5], missing[2:, 7] = True, True
    found = output(layer, np.where(missing, np.nan, counts[:4]))
    loadings, noise = np.asarray(layer.loadings, dtype=float), np.asarray(layer.noise, dtype=float)
    gone = np.tile(missing, (1, found.shape[1] // 30))
    for cell, unseen in zip(found.astype(float), gone, strict=True):
        seen_loadings, seen_noise = loadings[:, ~unseen], noise[~unseen]
        precision = seen_loadings / seen_noise @ seen_loadings.T + np.eye(len(loadings))
        factors = np.linalg.solve(precision, seen_loadings / seen_noise @ cell[~unseen])
        np.testing.assert_allclose(cell[unseen], factors @ loadings[:, unseen], rtol=1e-3, atol=1e-3)
    alike = output(layer, np.where(missing[:2], np.nan, counts[:2]))
    np.testing.assert_allclose(alike, found[:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["depth_free", "all"])
def test_what_is_measured_of_cells_with_weights_and_missing_genes(kind):
    """Twice the weight is the cell twice; a missing gene has the moments of the cells that show it."""
    counts = make_cells(60, 20, n_classes=2, random_state=0).X.toarray() + 1
    counts[::3, 2] = np.nan
    cells, twice = (check_cells(X, allow_nan=True) for X in (counts, np.vstack([counts, counts[:30]])))
    weights, codes = np.where(np.arange(60) < 30, 2.0, 1.0), np.arange(60) % 2
    weighted, repeated = CountViews(kind, program_noise=1, seed=0), CountViews(kind, program_noise=1, seed=0)
    for layer, measured_cells, of_cells in ((weighted, cells, weights), (repeated, twice, np.ones(90))):
        layer.build((None, 20))
        layer.measure(measured_cells, of_cells, np.resize(codes, len(of_cells)), 15.0)
    for name in ("gene_shares", "depth", "center", "factor"):
        found, expected = (np.asarray(getattr(layer, name).value) for layer in (weighted, repeated))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    found, expected = (
        (layer.loadings.numpy() ** 2).sum(axis=0) + layer.noise.numpy() for layer in (weighted, repeated)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # the variance, in however many factors
    seen = output(repeated, twice.take()).reshape(90, -1, 20)
    shown = np.isfinite(twice.take()[:, 2])
    np.testing.assert_allclose(seen[shown, :, 2].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(seen[:, :, 3:].mean(axis=0), 0, atol=2e-3)


@pytest.mark.parametrize("kind", ["depth_free", "all"])
def test_factors_and_noise_make_the_variance_of_what_the_network_sees(kind):
    counts = make_cells(400, 30, n_classes=2, random_state=0).X.toarray()
    layer = measured(kind, counts)
    explained = (np.asarray(layer.loadings) ** 2).sum(axis=0) + np.asarray(layer.noise)
    variances = output(layer, counts).var(axis=0)
    large = variances > 0.01 * variances.max()
    np.testing.assert_allclose(explained[large], variances[large], rtol=0.02)


def test_factors_explain_what_varies_together():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(3, 50))
    views = rng.normal(size=(4000, 3)) @ true + 0.5 * rng.normal(size=(4000, 50))
    loadings, noise = factor_loadings(views, np.ones(4000), 0)
    assert loadings.shape == (20, 50)
    np.testing.assert_allclose(loadings[:3].T @ loadings[:3], true.T @ true, atol=0.6)
    np.testing.assert_allclose(noise.mean(), 0.25 * (50 - 20) / 50, atol=0.02)  # the rest is in 17 factors of chance
    few, left = factor_loadings(np.array([[1.0, -1.0], [-1.0, 1.0]]), np.ones(2), None)
    np.testing.assert_array_equal(few, 0)  # two cells have no factors
    np.testing.assert_allclose(left, 1)


def test_a_laboratory_multiplies_the_counts_of_a_gene_alike_in_all_cells_and_views():
    layer = measured("depth_free", gene_noise=0.7)
    np.testing.assert_array_equal(output(layer, COUNTS), output(layer, COUNTS, training=False))
    seen = output(layer, COUNTS, training=True) + np.asarray(layer.center)
    views = (seen / np.asarray(layer.factor)).reshape(len(COUNTS), 2, 3)
    scaled = COUNTS / COUNTS.sum(axis=1, keepdims=True)  # totals are those of the counts
    shown = COUNTS > 0
    by_log = (np.expm1(views[:, 0]) / 10_000)[shown] / scaled[shown]
    by_root = (((views[:, 1] + 1) ** 2 - 1) / 10)[shown] / scaled[shown]
    np.testing.assert_allclose(by_log, by_root, rtol=1e-2)
    genes = np.nonzero(shown)[1]
    for gene in range(3):
        assert np.ptp(by_log[genes == gene]) < 1e-2 * by_log[genes == gene].mean()
    assert np.ptp(np.log(by_log)) > 0.1
    assert not np.array_equal(output(layer, COUNTS, training=True), seen - np.asarray(layer.center))


def test_a_share_of_genes_is_not_seen_and_the_total_stays():
    counts = np.ones((400, 200), dtype=np.float32)
    layer = CountViews("depth_free", missing_genes=0.6, seed=0)
    layer.build(counts.shape)
    seen = output(layer, counts, training=True)[:, :200]
    shares = (seen == 0).mean(axis=1)
    assert 0.25 < shares.mean() < 0.35
    assert shares.min() < 0.05
    assert 0.5 < shares.max() < 0.72
    np.testing.assert_allclose(seen[seen > 0], np.log1p(10_000 / 200), rtol=1e-5)


def test_programs_are_what_varies_together_within_the_types():
    rng = np.random.default_rng(0)
    codes = np.arange(400) % 2
    logs = 1.0 * np.eye(30)[0] * codes[:, np.newaxis] + 2 + 0.01 * rng.normal(size=(400, 30))
    logs[:, 10:15] += rng.normal(size=(400, 1)) * 0.3
    found = programs(logs.astype(np.float32), codes, 0)
    size = np.abs(found[0])
    assert size[10:15].min() > 10 * np.delete(size, range(10, 15)).max()
    assert 0.25 < size[10:15].mean() < 0.4
    assert size[0] < 0.05  # what differs between the types is no program


@pytest.fixture(scope="module")
def reference():
    cells = make_cells(600, 200, n_classes=3, n_markers=15, fold_change=3, mean_count=1, random_state=0)
    return cells.X.toarray(), cells.obs["cell_type"].to_numpy(dtype=str)


def of_another_laboratory(counts, seed, sigma=1.0):
    rng = np.random.default_rng(seed)
    return rng.poisson(counts * np.exp(sigma * rng.normal(size=counts.shape[1]))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(reference):
    X, y = reference
    return KerasCellClassifier(**SMALL).fit(X[:450], y[:450])


def test_noise_helps_where_genes_have_other_efficiencies_and_are_not_seen(reference):
    X, y = reference
    options = SMALL | {"home_network": False}
    noisy = KerasCellClassifier(**options).fit(X, y)
    quiet = KerasCellClassifier(**options | {"gene_noise": 0, "program_noise": 0, "missing_genes": 0}).fit(X, y)

    def mean_score(model, make):
        return np.mean([model.score(make(seed), y) for seed in range(6)])

    def half_seen(seed):
        return np.where(np.random.default_rng(seed).random(200) < 0.6, 0, X)

    def far_away(seed):
        return of_another_laboratory(X, seed, sigma=2.5)

    for make in (half_seen, far_away):
        assert mean_score(noisy, make) > mean_score(quiet, make) + 0.03


def test_the_gate_tells_the_experiment_from_other_laboratories(reference, fitted):
    X, _ = reference
    weights = fitted.gate_.home_weights(sp.csr_array(X[450:]))
    of_others = fitted.gate_.home_weights(sp.csr_array(of_another_laboratory(X[450:], 0)))
    assert weights.mean() > 0.5
    assert of_others.mean() < 0.1
    assert ((weights >= 0) & (weights < 1)).all()


def test_probabilities_are_those_of_the_two_networks_by_their_weights(reference, fitted):
    X, _ = reference
    cells = sp.csr_array(X[450:]).astype(np.float32)
    anywhere, home = fitted._network_alone(None)(cells), fitted.home_._network_alone(None)(cells)
    weights = fitted.gate_.home_weights(cells)[:, np.newaxis]
    mixed = anywhere ** (1 - weights) * home**weights
    np.testing.assert_allclose(
        fitted.predict_proba(X[450:]), mixed / mixed.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6
    )


def test_a_cell_is_named_the_same_alone_and_among_others(reference, fitted):
    X, _ = reference
    query = X[450:480].copy()
    query[::2, :30] = np.nan
    together = fitted.predict_proba(query)
    for i in (0, 1, 7):
        np.testing.assert_allclose(fitted.predict_proba(query[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-6)


def test_where_many_genes_are_missing_the_others_stand_for_them(reference, fitted):
    X, y = reference
    query = X[450:].copy()
    query[:, 45:] = np.nan  # the 45 markers are left
    assert fitted.score(query, y[450:]) > 0.9


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_the_same_seed_gives_the_same_bits(reference, engine):
    X, y = reference
    classifier = KerasCellClassifier(**SMALL | {"epochs": 2, "engine": engine})
    first = classifier.fit(X[:200], y[:200]).predict_proba(X[:50])
    np.testing.assert_array_equal(clone(classifier).fit(X[:200], y[:200]).predict_proba(X[:50]), first)
    np.testing.assert_array_equal(classifier.fit(sp.csr_array(X[:200]), y[:200]).predict_proba(X[:50]), first)


def test_both_engines_give_the_same_network_without_noise(reference):
    X, y = reference
    quiet = {"gene_noise": 0, "program_noise": 0, "missing_genes": 0, "home_network": False, "epochs": 2}
    found = [
        KerasCellClassifier(**SMALL | quiet | {"engine": engine}).fit(X, y).predict_proba(X[:50])
        for engine in ("tensorflow", "keras")
    ]
    np.testing.assert_allclose(*found, atol=1e-3)


def test_partial_fit_goes_on_with_both_networks(reference):
    X, y = reference
    classifier = KerasCellClassifier(**SMALL)
    for _ in range(3):
        classifier.partial_fit(X[:300], y[:300], classes=np.unique(y))
    gate = classifier.gate_
    classifier.partial_fit(X[300:450], y[300:450])
    assert classifier.n_iter_ == classifier.home_.n_iter_ == 4
    assert classifier.gate_ is gate
    assert classifier.score(X[450:], y[450:]) > 0.6


def test_few_cells_are_seen_more_often(reference):
    X, y = reference
    options = SMALL | {"home_network": False, "batch_size": 64}
    assert KerasCellClassifier(**options).fit(X[:128], y[:128]).n_iter_ == 300
    assert KerasCellClassifier(**options | {"epochs": 3}).fit(X[:128], y[:128]).n_iter_ == 3


@pytest.mark.parametrize(
    "params",
    [{"gene_noise": 0.7}, {"home_network": True}, {"views": "all", "architecture": "cnn"}, {"missing_genes": 0.2}],
)
def test_noise_without_views_of_counts_is_refused(reference, params):
    X, y = reference
    with pytest.raises(ValueError, match="need architecture='mlp' and views of counts"):
        KerasCellClassifier(**params).fit(X, y)


def test_negative_values_are_refused(reference, fitted):
    with pytest.raises(ValueError, match=r"expected counts >= 0, got -1.0 at cell 0, gene 0"):
        fitted.predict(-np.ones((1, 200)))


def test_a_gate_without_cells_of_some_class_is_learned():
    X = np.random.default_rng(0).poisson(2, (30, 10)).astype(np.float32)
    gate = ExperimentGate.learned(check_cells(X), np.ones(30), np.zeros(30, dtype=np.int64), 3, 0)
    assert np.isfinite(gate.home_weights(sp.csr_array(X))).all()


def test_default_chain_is_for_any_laboratory_and_takes_a_query_with_other_genes():
    cells = make_cells(400, 120, n_classes=3, random_state=0)
    pipeline = make_cell_pipeline(select__n_features_to_select=60, classify__random_state=0)
    pipeline.fit(cells[:300], cells.obs["cell_type"][:300])
    with pytest.warns(UserWarning, match="The cells lack"):
        assert pipeline.score(cells[300:, 12:], cells.obs["cell_type"][300:]) > 0.8


@pytest.fixture(scope="module")
def of_laboratories():
    cells = make_cells(120, 40, n_classes=3, random_state=0)
    classifier = KerasCellClassifier(**SMALL, epochs=2).fit(cells, cells.obs["cell_type"])
    return classifier, cells


def test_factors_of_a_laboratory_are_of_genes_and_programs(of_laboratories):
    views = of_laboratories[0]._views()
    rng = np.random.default_rng(3)
    logs = 0.7 * rng.standard_normal(40) + rng.standard_normal(10) @ views.programs
    np.testing.assert_allclose(Laboratory(views, seed=3).factors, np.exp(np.clip(logs, -6, 6)), rtol=1e-6)
    assert np.abs(views.programs).max() > 0.01


def test_a_laboratory_changes_counts(of_laboratories):
    classifier, _ = of_laboratories
    views = classifier._views()
    counts = np.full((400, 40), 3.0)
    counts[np.arange(400), np.arange(400) % 40] += 1 + np.arange(400) // 40  # no two cells are the same
    counts[0, :2] = 0, np.nan
    shown = Laboratory(views, seed=0)(counts).toarray()
    assert shown[0, 0] == 0
    assert np.isnan(shown[0, 1])
    rest = shown[1:]
    expected = counts[1:] * Laboratory(views, seed=0).factors
    np.testing.assert_allclose(rest[rest > 0], expected[rest > 0])
    gone = (rest == 0).mean(axis=1)
    assert gone.max() < 0.75
    assert 0.2 < gone.mean() < 0.3  # from 0 to a half of the genes
    assert Laboratory(views, seed=1).factors[0] != Laboratory(views, seed=0).factors[0]
    # A cell looks the same in any block, and with zeros stored.
    stored = sp.csr_array((counts[:5].ravel(), np.tile(np.arange(40), 5), np.arange(6) * 40), shape=(5, 40))
    np.testing.assert_array_equal(Laboratory(views, seed=0)(stored).toarray(), shown[:5])


def test_a_classifier_in_a_laboratory_is_a_copy(of_laboratories):
    classifier, cells = of_laboratories
    before = classifier.predict_proba(cells)
    there, same, other = (classifier.in_laboratory(seed).predict_proba(cells) for seed in (0, 0, 1))
    np.testing.assert_array_equal(there, same)
    assert np.abs(there - other).max() > 0.01
    np.testing.assert_array_equal(classifier.predict_proba(cells), before)
    assert classifier.in_laboratory(0).model_ is classifier.model_


def test_training_a_copy_leaves_the_original(of_laboratories):
    classifier, cells = of_laboratories
    before = classifier.predict_proba(cells)
    copied = copy(classifier)
    for _ in range(2):
        copied.partial_fit(cells, cells.obs["cell_type"])
    np.testing.assert_array_equal(classifier.predict_proba(cells), before)
    assert np.abs(copied.predict_proba(cells) - before).max() > 1e-4
    there = classifier.in_laboratory(0).partial_fit(cells, cells.obs["cell_type"])
    assert not hasattr(there, "_laboratory")  # it is trained on cells as they are


def test_genes_that_training_cells_lack_are_no_program():
    rng = np.random.default_rng(0)
    logs = rng.normal(2, 0.3, size=(400, 30)).astype(np.float32)
    logs[::2, :10] = np.nan
    size = np.abs(programs(logs, np.arange(400) % 2, 0))
    assert size[:, :10].max() < 2 * size[:, 10:].max()


def test_one_cell_is_enough_for_two_networks():
    classifier = KerasCellClassifier(**SMALL | {"epochs": 1})
    classifier.fit(COUNTS, [0, 1, 0, 1], sample_weight=[1, 0, 0, 0])
    assert np.isfinite(classifier.predict_proba(COUNTS)).all()


def test_a_classifier_without_noise_has_no_laboratory():
    classifier = KerasCellClassifier(epochs=1).fit(COUNTS, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="trained on simulated laboratories"):
        classifier.in_laboratory(0)


def test_novelty_finds_a_type_that_training_lacked():
    cells = make_cells(600, 100, n_classes=4, random_state=0)
    types = cells.obs["cell_type"].astype(str).to_numpy()
    is_new = types == "type 3"
    train = np.flatnonzero(~is_new)[::2]
    pipeline = make_cell_pipeline(select="passthrough", classify__random_state=0)
    pipeline.fit(cells[train], types[train])
    annotation, probabilities = annotate(pipeline, cells, return_proba=True)
    novelty = annotation["novelty"].to_numpy()
    known = ~is_new
    known[train] = False
    assert ((novelty >= 0) & (novelty <= 1)).all()
    assert np.median(novelty[is_new]) > np.quantile(novelty[known], 0.95)
    assert 0.8 < np.mean(novelty[known] < 0.9) < 0.98  # the share of held-out training cells that are nearer
    classifier = pipeline[-1]
    X = pipeline[:-1].transform(cells)
    np.testing.assert_array_equal(classifier.novelty_of(X, probabilities), novelty)
    np.testing.assert_allclose(classifier.novelty_of(X[:3]), novelty[:3], atol=1e-12)
    again = clone(pipeline).fit(cells[train], types[train])
    np.testing.assert_array_equal(annotate(again, cells)["novelty"], novelty)


def test_novelty_is_the_distance_by_the_covariance_within_types():
    """With all directions it is that of Mahalanobis, by a slow reference."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(300, 6)).astype(np.float32) @ rng.normal(size=(6, 6)).astype(np.float32)
    codes = np.arange(300) % 3
    seen[codes == 1] += 5
    directions, means = _axes(seen, codes, 3, 6, 0)
    residuals = seen - np.stack([seen[codes == code].mean(axis=0) for code in range(3)])[codes]
    inverse = np.linalg.inv(ledoit_wolf(residuals.astype(np.float64), assume_centered=True)[0])
    distances = np.einsum("ij,jk,ik->i", residuals, inverse, residuals)
    np.testing.assert_allclose(np.exp(_logs(seen @ directions, means, codes)), distances, rtol=1e-2)


def test_novelty_needs_views_and_a_fit_that_learned_it():
    X = np.random.default_rng(0).poisson(1.0, size=(40, 5)).astype(np.float32)
    y = np.arange(40) % 2
    with pytest.raises(ValueError, match="need architecture='mlp' and views .*, got .*novelty=True"):
        KerasCellClassifier(novelty=True).fit(X, y)
    fitted = KerasCellClassifier(views="depth_free", epochs=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="fitted with novelty=True, on cells labelled with its classes"):
        fitted.novelty_of(X)
    assert "novelty" not in annotate(fitted, X)
    few = KerasCellClassifier(views="depth_free", novelty=True, epochs=1, random_state=0).fit(X[:4], y[:4])
    assert np.isfinite(few.novelty_of(X)).all()
