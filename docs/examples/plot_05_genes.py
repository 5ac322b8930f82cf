"""
Choosing genes: by false discovery rate, and for a panel
========================================================

How many genes are informative at all? And which twenty would you put on a panel? The most divergent genes are a poor
answer to the second question, because they often carry the same information.
"""

# %%
# To have genes that are known to be uninformative, add a copy of each gene with its counts shuffled among the cells.
# The copies have the same counts as real genes, and if one is selected, this is due to chance. ``max_fdr=0.05`` allows
# five per cent of these.
import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from sklearn_cells import JSDivergenceSelector, LogNormalizer
from sklearn_cells.datasets import load_pbmc68k

cells = load_pbmc68k()
types = cells.obs["cell_type"]
shuffled = np.random.default_rng(0).permuted(cells.X.toarray(), axis=0)
both = ad.AnnData(
    np.hstack([cells.X.toarray(), shuffled]),
    obs=cells.obs,
    var=pd.DataFrame(index=[*cells.var_names, *("shuffled " + cells.var_names)]),
)
selector = JSDivergenceSelector(None, max_fdr=0.05).fit(both, types)
selected = selector.get_feature_names_out()
by_chance = np.char.startswith(selected.astype(str), "shuffled")
print(f"{len(selected)} of {both.n_vars} genes, {by_chance.sum()} of them shuffled")
assert 200 < len(selected) <= 765
assert by_chance.mean() < 0.1

# %%
# ``redundancy="cmim"`` chooses genes one at a time, by what each adds to those already chosen. For each gene that was
# left out, the column ``represented_by`` gives the chosen gene that represents it.
panel = JSDivergenceSelector(20, redundancy="cmim").fit(cells, types)
table = panel.gene_table()
left_out = table[~table["selected"]].nlargest(8, "divergence")
assert left_out["represented_by"].isin(table["gene"][:20]).all()
left_out[["gene", "divergence", "marks", "represented_by"]]

# %%
# A panel of 15 non-redundant genes distinguishes the types better than the 15 most divergent genes; here, the
# difference disappears from 30 genes on. Genes are chosen inside each fold, and macro-F1 gives all types the same
# weight; types with fewer than 30 cells are left out.
frequent = types.isin(types.value_counts().loc[lambda n_cells: n_cells >= 30].index)
n_genes, folds = [15, 20, 30, 50], StratifiedKFold(5, shuffle=True, random_state=0)
curves = {}
figure, axes = plt.subplots(layout="constrained")
for redundancy, marker in {None: "o", "cmim": "s"}.items():
    curves[redundancy] = [
        cross_val_score(
            make_pipeline(JSDivergenceSelector(n, redundancy=redundancy), LogNormalizer(), LinearSVC(C=0.1)),
            cells[frequent], types[frequent], cv=folds, scoring="f1_macro",
        ).mean()
        for n in n_genes
    ]  # fmt: skip
    axes.plot(n_genes, curves[redundancy], marker=marker, label=redundancy or "most divergent")
axes.set(xticks=n_genes, xlabel="Genes", ylabel="Macro-F1, five folds")
axes.legend()
print(pd.DataFrame(curves, index=n_genes).round(3))
assert curves["cmim"][0] > curves[None][0] + 0.02
assert np.allclose(curves["cmim"][2:], curves[None][2:], atol=0.02)
