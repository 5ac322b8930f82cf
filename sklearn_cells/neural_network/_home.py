"""The home network: one that knows the experiment of the training cells, beside one for any laboratory."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from sklearn_cells._cells import Cells
from sklearn_cells.neural_network._fitting import Fitting
from sklearn_cells.neural_network._gate import ExperimentGate
from sklearn_cells.neural_network._plan import Plan, plan_training

# What differs in the home network; it has half the hidden units, too, which is enough for three views.
HOME = {
    "views": "all",
    "gene_noise": 0.0,
    "program_noise": 0.0,
    "missing_genes": 0.0,
    "linear_path": False,
    "home_network": False,
    "verbose": 0,
}


def fit_home(classifier, cells: Cells, codes: NDArray, sample_weight, plan: Plan, context, told) -> dict[str, Any]:
    """Train the home network on the same cells, and learn how far a cell looks as if it came from there."""
    home = copy(classifier.home_) if plan.goes_on else _new_home(classifier, plan.seed)
    options = {"goes_on": plan.goes_on, "incremental": plan.incremental}
    of_home = plan_training(home, plan.classes, codes, sample_weight, **options)
    vars(home).update(Fitting(home, cells, of_home).run(context, told))
    if plan.goes_on:
        return {"home_": home, "gate_": classifier.gate_}
    gate = ExperimentGate.learned(cells, plan.sample_weight, codes, len(plan.classes), plan.seed)
    return {"home_": home, "gate_": gate}


def _new_home(classifier, seed):
    class_weight = "balanced" if classifier.class_weight == "sqrt" else classifier.class_weight
    widths = tuple(-(-width // 2) for width in np.atleast_1d(classifier.hidden_layer_sizes).tolist())
    home = clone(classifier).set_params(**HOME, class_weight=class_weight, hidden_layer_sizes=widths, random_state=seed)
    home.n_features_in_ = classifier.n_features_in_
    return home
