"""
Saving, sharing and loading a model
===================================

``save_model`` writes only data: the file runs no code when it is loaded, carries a card that says what the model was
trained on, and is refused if a single byte has changed.
"""

# %%
# The card contains the scores of three folds, and anything you add to it.
import tempfile
from pathlib import Path

import joblib
import numpy as np

from sklearn_cells import load_model, make_cell_pipeline, save_model
from sklearn_cells.datasets import make_cells
from sklearn_cells.persistence import read_card, training_card
from sklearn_cells.plotting import CellConfusionDisplay

cells = make_cells(800, 100, n_classes=3, fold_change=3, random_state=0)
types = cells.obs["cell_type"].to_numpy(dtype=str)
cells, new, types, types_new = cells[:600], cells[600:], types[:600], types[600:]
pipeline = make_cell_pipeline(select__n_features_to_select=50, classify__random_state=0)
card = training_card(
    pipeline, cells, types, cv=3, random_state=0, name="simulated cells", license="CC0", source="make_cells"
)
pipeline.fit(cells, types)

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "simulated.cellmodel"
save_model(pipeline, path, card=card)
print(read_card(path))

# %%
# The loaded model gives the same probabilities, to the last bit. Here it annotates cells that it was not trained on:
loaded = load_model(path)
np.testing.assert_array_equal(loaded.predict_proba(new), pipeline.predict_proba(new))
CellConfusionDisplay.from_estimator(loaded, new, types_new)

# %%
# A file with one flipped bit is refused:
damaged = bytearray(path.read_bytes())
damaged[len(damaged) // 2] ^= 1
(path.parent / "damaged.cellmodel").write_bytes(damaged)
try:
    load_model(path.parent / "damaged.cellmodel")
except ValueError as error:
    print(str(error).replace(folder.name, ""))
else:
    raise AssertionError("a damaged file was loaded")

# %%
# ``joblib`` saves anything, including your own transformers, but it writes a pickle. A pickle can run any code when it
# is loaded, so load only files that you trust.
joblib.dump(pipeline, path.with_suffix(".joblib"))
again = joblib.load(path.with_suffix(".joblib"))
np.testing.assert_array_equal(again.predict_proba(new), pipeline.predict_proba(new))
folder.cleanup()

# %%
# A model of ten blood cell types comes with the package:
blood = load_model("sorted_blood")
assert len(blood.classes_) == 10
print(blood.card_)
