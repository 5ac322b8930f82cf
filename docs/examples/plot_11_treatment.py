"""
Treated cells
=============

A drug or an infection changes genes in every type of cells. Train on the untreated cells, whose types are known,
annotate the treated ones, look for types that the treatment brought in, and ask which genes respond in each type.
"""

# %%
# Simulated cells stand for an experiment with two samples. The treatment makes all types express 40 response genes ten
# times as much, and halves the counts of a third of the other genes. Type 3 is not among the untreated cells: the
# treatment brings it in, as an infection brings in immune cells.
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
# The default classifier is trained on simulated laboratories, in which genes are more or less efficient than in the
# reference. To the network, a response to treatment looks much like that.
model = make_cell_pipeline(select__n_features_to_select=200, classify__random_state=0)
model.fit(untreated, untreated.obs["cell_type"])
annotate(model, treated, inplace=True)

truth = treated.obs["cell_type"].to_numpy(dtype=str)
known = truth != "type 3"
right = (treated.obs["predicted_label"] == truth)[known].mean()
print(f"{right:.1%} of the treated cells of known types are right")
assert right > 0.95

# %%
# The map of the hidden layer, as scanpy draws it. The model knows three types, so the cells of the fourth get one of
# these names, mostly with less confidence. With real cells you do not have the last of these pictures.
treated.obsm["X_cells"] = model.embed(treated)
sc.pp.neighbors(treated, use_rep="X_cells", random_state=0)
sc.tl.umap(treated, random_state=0)
sc.pl.umap(treated, color=["predicted_label", "confidence", "novelty", "cell_type"], ncols=2, wspace=0.3)

# %%
# Cells of the type that the treatment brought in are more novel than the others and have less confidence. Treated cells
# of known types look novel too, so compare treated cells with one another.
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
# Which genes respond? Within each type, rank the genes that tell treated from untreated cells. The changed genes come
# first, in each type.
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
