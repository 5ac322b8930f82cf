"""Make model_v1.cellmodel and what it predicted: python tests/data/make_model_v1.py

Ran once, with sklearn_cells 0.1.0. Later versions must load the file as it is, so it is not to be made again.
"""

from pathlib import Path

import numpy as np

from sklearn_cells import make_cell_pipeline, save_model
from sklearn_cells.datasets import make_cells
from sklearn_cells.persistence import training_card

FOLDER = Path(__file__).resolve().parent


def main():
    cells = make_cells(120, 40, n_classes=3, random_state=0)
    labels = cells.obs["cell_type"].to_numpy(dtype=str)
    params = {"hidden_layer_sizes": (8,), "epochs": 5, "learning_rate": 0.02, "random_state": 0}
    pipeline = make_cell_pipeline(
        select__n_features_to_select=12, **{f"classify__{name}": value for name, value in params.items()}
    )
    card = training_card(pipeline, cells, labels, cv=3, name="simulated cells", license="BSD-3-Clause")
    pipeline.fit(cells, labels)
    pipeline["classify"].partial_fit(pipeline[:-1].transform(cells), labels)  # the optimizer is in the file too
    save_model(pipeline, FOLDER / "model_v1.cellmodel", card=card)
    np.savez_compressed(
        FOLDER / "model_v1_expected.npz",
        counts=cells.X[:20].toarray().astype(np.int16),
        gene_names=cells.var_names.to_numpy(dtype=str),
        probabilities=pipeline.predict_proba(cells[:20]),
        ranked=pipeline["select"].gene_table()["gene"].to_numpy(dtype=str),
        pvalues=pipeline["select"].pvalues_,
    )


if __name__ == "__main__":
    main()
