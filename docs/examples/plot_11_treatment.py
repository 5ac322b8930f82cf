"""
Treated cells
=============

A drug or an infection changes gene expression in every cell type. Train on the untreated cells, whose types are known,
annotate the treated ones, look for types that appear only after treatment, and find the genes that respond in each
type.
"""

# %%
# Simulated cells stand in for an experiment with two samples. The treatment raises the expression of 40 response genes
# tenfold in all types, and halves the counts of a third of the other genes. Type 3 is not among the untreated cells: it
# appears with the treatment, as immune cells do in an infection.
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from sklearn_cells import JSDivergenceSelector, annotate, make_cell_pipeline
from sklearn_cells.datasets import make_cells

cells = make_cells(1600, 400, n_classes=4, n_markers=15, fold_change=4, random_state=0)
cells.obs["cell_type"] = cells.obs["cell_type"].astype(str)
untreated, treated = cells[:800].copy(), cells[800:].copy()
untreated = untreated[untreated.obs["cell_type"] != "type 3"].copy()

rng = np.random.default_rng(0)
response, fewer = np.arange(360, 400), np.arange(2, 360, 3)
counts = treated.X.toarray()
counts[:, response] += rng.poisson(9 * counts[:, response].mean(axis=0), size=(len(counts), len(response)))
counts[:, fewer] = rng.binomial(counts[:, fewer].astype(int), 0.5)
treated.X = sp.csr_matrix(counts.astype(np.float32))

# %%
# The default classifier is trained on simulated laboratories, in which genes are detected more or less efficiently than
# in the reference. To the network, a response to treatment looks much the same.
model = make_cell_pipeline(select__n_features_to_select=200, classify__random_state=0)
model.fit(untreated, untreated.obs["cell_type"])
annotate(model, treated, inplace=True)

truth = treated.obs["cell_type"].to_numpy(dtype=str)
known = truth != "type 3"
right = (treated.obs["predicted_label"] == truth)[known].mean()
print(f"{right:.1%} of the treated cells of known types are right")
assert right > 0.95

# %%
# scanpy draws a UMAP of the hidden layer. The model knows three types, so the cells of the fourth type get one of these
# labels, mostly with lower confidence. With real cells, the last of these panels would not be available.
treated.obsm["X_cells"] = model.embed(treated)
sc.pp.neighbors(treated, use_rep="X_cells", random_state=0)
sc.tl.umap(treated, random_state=0)
sc.pl.umap(treated, color=["predicted_label", "confidence", "novelty", "cell_type"], ncols=2, wspace=0.3)

# %%
# Cells of the new type have higher novelty and lower confidence than the others. Treated cells of known types look
# novel too, so compare treated cells with one another.
print(treated.obs.groupby("cell_type", observed=True)[["confidence", "novelty"]].median().round(2))
areas = pd.Series(
    {
        "novelty": roc_auc_score(~known, treated.obs["novelty"]),
        "1 - confidence": roc_auc_score(~known, 1 - treated.obs["confidence"]),
    }
)
print(areas.rename("area under the curve").round(3))
assert areas.min() > 0.8

# %%
# Which genes respond? Within each type, rank the genes that distinguish treated from untreated cells. In each type, the
# response genes rank first.
for name in ("type 0", "type 1", "type 2"):
    both = sc.concat(
        {
            "untreated": untreated[untreated.obs["cell_type"] == name],
            "treated": treated[treated.obs["predicted_label"] == name],
        },
        label="sample",
        index_unique="-",
    )
    first = JSDivergenceSelector(20).fit(both, both.obs["sample"]).gene_table().head(20)["gene"]
    found = first.isin(cells.var_names[response]).mean()
    print(f"{name}: {', '.join(first[:5])}, ...; {found:.0%} of the first 20 are response genes")
    assert found > 0.9
