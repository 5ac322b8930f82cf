"""The plan of a training: its cells and their weights, its length, and what it continues from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from sklearn_cells._validation import check_sample_weight
from sklearn_cells.neural_network._class_weights import prior_ratios, shares, weights_of_classes
from sklearn_cells.neural_network._label_codes import classes_before, groups_of, has_leaves_alone, parts_of_types
from sklearn_cells.neural_network._objective import Objective, TreeObjective

# With epochs="auto".
EPOCHS = 20
LEAST_BATCHES = 600
MOST_SEEN = 1_000_000
LEAST_EPOCHS = 2


@dataclass(frozen=True)
class Plan:
    """What a training does, before a network is built."""

    classes: NDArray  # sorted, of shape (n_classes,)
    output_order: NDArray  # the output of the network for each class
    sources: NDArray | None  # if the tree has grown, the former output for each output, -1 for a new one
    sample_weight: NDArray  # of all cells; 0 for cells that are not trained on
    fields: dict[str, NDArray]  # the fields of all cells for the objective: codes and weights
    objective: Objective
    groups: NDArray  # of all cells: the index of the class, or a greater number if the type is not a leaf
    rows: NDArray  # the cells to train on
    held_out: NDArray | None  # the cells for early stopping
    class_counts: NDArray  # the weighted number of cells of each class, with those of earlier partial fits
    as_trained: NDArray  # the share of each class in the loss
    seed: int
    epochs: range  # their numbers determine the order of the cells
    schedule: str
    history: dict[str, list[float]]  # of earlier epochs
    goes_on: bool  # whether training continues from the current weights
    incremental: bool  # whether this is one more epoch, for partial_fit


def plan_training(classifier, classes, codes, sample_weight, *, goes_on: bool, incremental: bool) -> Plan:
    """Plan a training from the parameters of a classifier.

    The codes are indices of classes or, if the classifier has a hierarchy, of its types. A cell whose label is
    not a leaf counts as a fraction of a cell of each leaf below it, in proportion to the cells with these
    leaves as labels.

    Raises
    ------
    ValueError
        If weights are negative or all zero, priors are invalid, or cells cannot be set aside.
    """
    dtype = np.float64 if classifier.dtype == "float64" else np.float32
    shape_alone = np.broadcast_to(dtype(0), (len(codes), 1))
    sample_weight = check_sample_weight(sample_weight, shape_alone, dtype=dtype, ensure_non_negative=True)
    tree = classifier.hierarchy
    type_counts = np.bincount(codes, weights=sample_weight, minlength=len(classes if tree is None else tree))
    parts = np.eye(len(classes)) if tree is None else parts_of_types(tree, classes, type_counts)
    class_counts = type_counts @ parts
    history, seed = {}, None
    output_order = classifier._output_order if goes_on else np.arange(len(classes))
    has_grown = goes_on and not np.array_equal(classes, classifier.classes_)
    before = classes_before(tree, classes, classifier.classes_) if has_grown else np.arange(len(classes))
    sources = np.where(before < 0, -1, output_order[before]) if has_grown else None
    output_order = np.arange(len(classes)) if has_grown else output_order
    if incremental and goes_on:
        n_of_before = np.bincount(before[before >= 0], minlength=len(classifier._class_counts))
        class_counts = class_counts + np.where(
            before < 0, 0, (classifier._class_counts / np.maximum(n_of_before, 1))[before]
        )
        history, seed = classifier.history_, classifier._seed
    if seed is None:
        seed = int(check_random_state(classifier.random_state).randint(np.iinfo(np.int32).max))
    of_classes = weights_of_classes(classifier.class_weight, classes, class_counts)
    weights = (sample_weight * (parts @ of_classes)[codes]).astype(dtype)
    as_trained = shares(of_classes * class_counts)
    if classifier.priors is not None:  # raises before the training, not after
        prior_ratios(classifier.priors, classes, shares(class_counts), as_trained)
    rows, held_out = np.flatnonzero(weights), None
    if not len(rows):
        raise ValueError(
            "All cells have weight zero. Pass a sample_weight and class_weight that are above zero for some cells."
        )
    if classifier.early_stopping and not incremental:
        rows, held_out = set_aside(rows, codes, classifier.validation_fraction, seed)
    epochs = range(n_epochs(classifier, len(rows)))
    if incremental:
        epochs = range(classifier.n_iter_, classifier.n_iter_ + 1) if goes_on else range(1)
    in_training = np.zeros_like(sample_weight)
    in_training[rows] = sample_weight[rows]
    if tree is None or has_leaves_alone(classifier, codes):
        objective, of_labels = Objective(), output_order[parts.argmax(axis=1)][codes]
    else:
        below = np.zeros((len(parts), len(classes)), dtype=bool)
        below[:, output_order] = parts > 0
        objective, of_labels = TreeObjective(below, tree.ancestry(), classifier.level_weight), codes
    return Plan(
        classes=classes,
        output_order=output_order,
        sources=sources,
        sample_weight=in_training,
        fields={"codes": of_labels.astype(np.int32), "weights": weights},
        objective=objective,
        groups=groups_of(parts, codes),
        rows=rows,
        held_out=held_out,
        class_counts=class_counts,
        as_trained=as_trained,
        seed=seed,
        epochs=epochs,
        schedule="constant" if incremental else classifier.learning_rate_schedule,
        history=history,
        goes_on=goes_on,
        incremental=incremental,
    )


def n_epochs(classifier, n_cells: int) -> int:
    """Return the number of epochs: with "auto", more for few cells and fewer for many cells.

    Few cells get enough epochs for `LEAST_BATCHES` minibatches. From 50,000 cells on, the network sees a
    million cells in total, but each at least twice.
    """
    if classifier.epochs != "auto":
        return classifier.epochs
    n_batches = -(-n_cells // min(classifier.batch_size, n_cells))
    n_epochs = max(EPOCHS, -(-LEAST_BATCHES // n_batches))
    return min(n_epochs, max(LEAST_EPOCHS, round(MOST_SEEN / n_cells)))


def set_aside(rows: NDArray, codes: NDArray, fraction: float, seed: int) -> tuple[NDArray, NDArray]:
    """Split cells into training cells and cells for early stopping, stratified by class."""
    try:
        train, held_out = train_test_split(rows, test_size=fraction, stratify=codes[rows], random_state=seed)
    except ValueError as error:
        sizes = np.unique(codes[rows], return_counts=True)[1]
        raise ValueError(
            f"early_stopping cannot split off {fraction:.0%} of {len(rows)} cells so that each of {len(sizes)} "
            f"classes has cells on both sides; the smallest class has {sizes.min()}. Raise validation_fraction, "
            "remove classes with one cell, or train without early_stopping."
        ) from error
    return np.sort(train), np.sort(held_out)
