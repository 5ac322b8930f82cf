"""
What a divergence means, and when it misleads
=============================================

The score of a gene is the Jensen-Shannon divergence between the distributions of its counts in the types: 0 nats if
they are the same, and ln K if none of the K types shares a count with another. Two things can rank uninformative genes
high: few cells, and sequencing depth.
"""

# %%
# Take four cells of two types. The first gene distinguishes them fully, the second a little, the third not at all:
import matplotlib.pyplot as plt
import numpy as np

from sklearn_cells import JSDivergenceSelector, LogNormalizer, js_divergence, js_divergence_test
from sklearn_cells.datasets import make_cells

counts = np.array([[0, 0, 1], [0, 1, 1], [3, 1, 1], [3, 1, 1]])
divergences = js_divergence(counts, ["B", "B", "T", "T"])
print(divergences.round(4))
assert np.isclose(divergences[0], np.log(2))
assert divergences[2] == 0

# %%
# **Few cells.** The estimate is biased upward. The genes here have the same distribution in all ten types, with a mean
# of ten counts, and the types have 20 to 1,000 cells. The Miller-Madow formula removes part of the bias, and permuting
# the labels removes all of it.
rng = np.random.default_rng(0)
n_cells = [20, 50, 100, 200, 500, 1000]
corrections = {None: "not corrected", "miller-madow": "miller-madow", "permutation": "permutation"}
scores = {correction: [] for correction in corrections}
for n in n_cells:
    noise, types = rng.poisson(rng.gamma(2, 5, size=(10 * n, 30))), np.repeat(np.arange(10), n)
    for correction in corrections:
        selector = JSDivergenceSelector(10, bias_correction=correction, n_permutations=50, random_state=0)
        scores[correction].append(selector.fit(noise, types).divergences_.mean())

figure, axes = plt.subplots(layout="constrained")
for marker, (correction, label) in zip("osD", corrections.items(), strict=True):
    axes.plot(n_cells, scores[correction], marker=marker, label=label)
axes.set(xscale="log", xlabel="Cells of each type", ylabel="Divergence of uninformative genes, nats")
axes.legend()
assert scores[None][0] > 0.3 > 0.03 > scores[None][-1]
assert np.abs(scores["permutation"]).max() < 0.01

# %%
# **Depth.** Two types differ in 40 marker genes out of 500. Half of the counts of the second type are then removed, as
# if it had been sequenced less deeply. Before, 5% of the genes that are not markers had p < 0.05, as expected by
# chance; on the thinned counts, all of them do. The markers of the second type, which had twice the counts in it, no
# longer stand out. Scaling the cells to the same depth recovers the markers; the scaled values are no longer counts, so
# they are put into ``bins``.
cells = make_cells(2000, 500, n_classes=2, n_markers=20, fold_change=2, mean_count=2, random_state=0)
markers = cells.var_names[:40]
shallow = (cells.obs["cell_type"] == "type 1").to_numpy()
thinned = cells.X.toarray().astype(int)
thinned[shallow] = rng.binomial(thinned[shallow], 0.5)

raw, p_values = js_divergence_test(thinned, shallow)
p_values_before = js_divergence_test(cells.X, shallow)[1]
print(f"p < 0.05: {(p_values < 0.05).mean():.0%} of all genes")
assert (p_values_before[40:] < 0.05).mean() < 0.1
assert (p_values[40:] < 0.05).all()
assert (p_values[20:40] < 0.05).mean() < 0.2

scaled = js_divergence(LogNormalizer(target_sum=1_000).fit_transform(thinned), shallow, bins=10)
for name, divergences in {"raw counts": raw, "scaled to the same depth": scaled}.items():
    first = cells.var_names[np.argsort(-divergences)[:40]]
    print(f"{name}: {np.isin(first, markers).sum()} of the first 40 genes are markers")
assert np.isin(np.argsort(-scaled)[:40], range(40)).sum() > 1.5 * np.isin(np.argsort(-raw)[:40], range(40)).sum()

# %%
# Differences in depth may be real: a plasma cell has more RNA than a resting B cell. If each type was sequenced as a
# separate library, look at both lists. Another pitfall is :ref:`to rank genes before the split
# <sphx_glr_auto_examples_plot_04_leakage.py>`, which inflates scores.
