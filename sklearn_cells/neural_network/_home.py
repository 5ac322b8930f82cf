"""The home network: a second network for the experiment of the training cells, besides the one for any laboratory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from sklearn_cells._cells import Cells
from sklearn_cells.neural_network._count_views import views_of
from sklearn_cells.neural_network._fitting import Fitting
from sklearn_cells.neural_network._gate import ExperimentGate
from sklearn_cells.neural_network._novelty import Novelty
from sklearn_cells.neural_network._plan import Plan, plan_training
from sklearn_cells.neural_network._process import check_process

# The parameters that differ in the home network. It also has half the hidden units, which is enough for three
# views.
HOME = {
    "views": "all",
    "gene_noise": 0.0,
    "program_noise": 0.0,
    "missing_genes": 0.0,
    "linear_path": False,
    "home_network": False,
    "novelty": False,
}


def train(
    classifier, cells: Cells, classes: NDArray, codes: NDArray, sample_weight, task_info, *, goes_on, incremental=False
) -> None:
    """Train the network of a classifier, with `home_network` also the second one, and report to its callbacks.

    The fitted attributes are set only after both are trained.

    Raises
    ------
    KeyboardInterrupt
        If training is interrupted. The message states whether the classifier is fitted.
    """
    vars(classifier).pop("_laboratory", None)
    try:
        plan = plan_training(classifier, classes, codes, sample_weight, goes_on=goes_on, incremental=incremental)
        task_info["metadata"] = None if sample_weight is None else {"sample_weight": sample_weight}
        _train(classifier, cells, plan, codes, sample_weight, task_info)
    except KeyboardInterrupt:
        state = "as it was before" if goes_on else "not fitted"
        raise KeyboardInterrupt(f"Training was interrupted: the classifier is {state}.") from None


def _train(classifier, cells: Cells, plan: Plan, codes: NDArray, sample_weight, task_info) -> None:
    """Train the networks according to a plan, and set the fitted attributes."""
    check_process()
    cells = cells.for_training()
    n_epochs = len(plan.epochs) * (2 if classifier.home_network else 1)
    context = classifier._init_callback_context(max_subtasks=n_epochs).call_on_fit_task_begin(**task_info)
    fitting = Fitting(classifier, cells, plan)
    checkpoints = [fitting.checkpoint]
    attributes = fitting.run(context, task_info)
    if classifier.home_network:
        attributes |= _fit_home(classifier, cells, codes, sample_weight, plan, context, task_info, checkpoints)
    for name in _outdated(classifier, plan):
        vars(classifier).pop(name, None)
    if classifier.novelty and not plan.incremental and (plan.groups < len(plan.classes)).any():
        attributes["novelty_"] = Novelty.learned(
            views_of(attributes["model_"]), cells, plan.sample_weight, plan.groups, len(plan.classes), plan.seed
        )
    vars(classifier).pop("_saved_network", None)
    vars(classifier).update(attributes)
    context.call_on_fit_task_end(**task_info, reconstruction_attributes={})
    for checkpoint in filter(None, checkpoints):
        checkpoint.remove()


def _outdated(classifier, plan):
    """Return the attributes of former fits that are outdated, as options are off or the tree has grown."""
    outdated = [] if classifier.home_network else ["home_", "gate_"]
    return outdated if classifier.novelty and plan.sources is None else [*outdated, "novelty_"]


def _fit_home(classifier, cells, codes, sample_weight, plan, context, task_info, checkpoints):
    """Train the home network on the same cells, and learn the gate that weights the two networks."""
    goes_on = plan.goes_on and hasattr(classifier, "home_")
    home = _home_of(classifier, plan.seed, goes_on=goes_on)
    options = {"goes_on": goes_on, "incremental": plan.incremental}
    of_home = plan_training(home, plan.classes, codes, sample_weight, **options)
    fitting = Fitting(home, cells, of_home)
    checkpoints.append(fitting.checkpoint)
    attributes = fitting.run(context, task_info)
    vars(home).pop("_saved_network", None)
    vars(home).update(attributes)
    if goes_on and (plan.sources is None or plan.incremental):
        return {"home_": home, "gate_": classifier.gate_}
    groups = np.unique(plan.groups, return_inverse=True)[1]
    gate = ExperimentGate.learned(cells, plan.sample_weight, groups, int(groups.max()) + 1, plan.seed)
    return {"home_": home, "gate_": gate}


def _home_of(classifier, seed, *, goes_on):
    """Return the classifier of the home network, unfitted or as fitted before, with the current parameters."""
    class_weight = "balanced" if classifier.class_weight == "sqrt" else classifier.class_weight
    widths = tuple(-(-width // 2) for width in np.atleast_1d(classifier.hidden_layer_sizes).tolist())
    home = clone(classifier).set_params(**HOME, class_weight=class_weight, hidden_layer_sizes=widths, random_state=seed)
    home.n_features_in_ = classifier.n_features_in_
    if goes_on:
        parameters = home.get_params(deep=False)
        vars(home).update({name: value for name, value in vars(classifier.home_).items() if name not in parameters})
    return home
