"""RejectOptionClassifier: cells that a classifier is unsure of get a coarser name, or become "Unassigned"."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state, get_tags, indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._cells import Cells, check_same_order
from sklearn_cells._checks import refuse_other_objects
from sklearn_cells._embedding import EmbeddingMixin
from sklearn_cells._typing import CellsLike, RandomState
from sklearn_cells._validation import HasMethods, Interval, StrOptions, TemperatureScaling, all_or_nothing, fit_context
from sklearn_cells._warnings import once_per_call
from sklearn_cells.hierarchy import CellTypeTree, NamesInTree, NamesOfClasses
from sklearn_cells.metrics import expected_calibration_error, hierarchical_accuracy
from sklearn_cells.reject._fit_checks import check_one_target, checked_label, checked_labels, names_of
from sklearn_cells.reject._held_out import fitted, held_out_logits, logits_of, splits_of
from sklearn_cells.reject._threshold import ErrorCurve, only_leaves, scores_of


class RejectOptionClassifier(EmbeddingMixin, CallbackSupportMixin, MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Classify the cells that a classifier is sure of, and leave the others unassigned.

    The classifier is fitted on all cells. The calibration of its probabilities, and the threshold
    above which a cell is assigned, are learned from held-out cells: copies of the classifier predict
    cells that they were not trained on. With a `hierarchy`, a cell is assigned the deepest type in
    the tree that is probable enough, and is unassigned only if no type at the top is.

    Parameters
    ----------
    estimator : classifier
        A classifier with `predict_proba` or `decision_function`, such as the result of
        :func:`make_cell_pipeline` or `LinearSVC()`. A copy of it is fitted.

    threshold : float, default=None
        The lowest probability of the predicted class at which a cell is assigned, from 0 to 1. With a
        `hierarchy`, the lowest evidence; see Notes.

    target_error : float, default=None
        Instead of `threshold`, the share of errors allowed among assigned cells. The threshold is then the one
        that assigns the most held-out cells with no more errors than that, as simulated laboratories show these
        cells if there are any (`n_laboratories`). If none of `threshold`, `target_error` and `target_coverage`
        is given, the target error is 0.05.

    target_coverage : float, default=None
        Instead of `threshold`, the share of cells to assign. The threshold is then the greatest that
        assigns this share of the held-out cells, shown in the same way.

    confidence_level : float or None, default=0.9
        The confidence in the target error: the probability, over draws of the held-out cells, that the error
        among assigned cells is at most the target. None takes the threshold at which the held-out cells just
        reach the target; the error of new cells then exceeds it about half of the time.

    hierarchy : CellTypeTree, default=None
        The tree of the types. If the estimator has the tree too, as :class:`KerasCellClassifier` may, `y` may
        have labels at any depth; with other estimators, labels must be leaves. An assigned type is correct if
        the true type of the cell is the same or lies below it. If it is finer than the label of a held-out
        cell, it cannot be judged and counts as correct, so many coarse labels make the threshold too low.

    calibration : {"temperature"} or None, default="temperature"
        Whether to divide logits by the temperature that maximises the likelihood of the held-out
        cells. None does not change probabilities.

    cv : int, splitter or iterable, default=5
        How cells are held out: the number of stratified folds of shuffled cells, or anything that
        :func:`sklearn.model_selection.check_cv` takes. `StratifiedShuffleSplit(1)` fits once instead
        of five times. With `groups` in `fit`, such as the donor of each cell, whole groups are held out.

    n_laboratories : int, default=3
        The number of simulated laboratories that show the held-out cells of each fold, if the estimator was
        trained on simulated laboratories and `fit` gets no groups. Temperature and threshold are learned from
        the cells as these laboratories show them, so that they hold in other laboratories too. 0 uses the
        held-out cells unchanged.

    unassigned_label : str or int, default=None
        The label of cells below the threshold in `predict`. None takes "Unassigned" if classes are
        strings, and -1 if they are numbers.

    n_jobs : int, default=None
        The number of folds to fit in parallel, as in scikit-learn.

    random_state : int, RandomState instance or None, default=None
        Determines the folds if `cv` is a number, and the simulated laboratories. The estimator has its own
        `random_state`.

    Attributes
    ----------
    estimator_ : classifier
        Fitted on all cells.

    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted, without `unassigned_label_`. With a `hierarchy`, its leaves.

    hierarchy_ : CellTypeTree or None
        The `hierarchy` used in `fit`.

    names_ : ndarray of shape (n_names,)
        The labels that assigned cells can have: `classes_`, or all types of the `hierarchy`.

    threshold_ : float
        The lowest probability of the predicted class at which a cell is assigned. With a `hierarchy`, the lowest
        evidence.

    temperature_ : float
        The divisor of the logits: above 1 if the estimator was overconfident, below 1 if it was
        underconfident. 1 if `calibration` is None or every held-out cell was predicted correctly.

    unassigned_label_ : str or int
        The label of cells below the threshold in `predict`.

    risk_coverage_ : DataFrame of shape (n_thresholds, 3)
        `threshold`, `coverage` and `risk` on the cells from which the threshold is learned, see
        :func:`sklearn_cells.metrics.risk_coverage_curve`; with a `hierarchy`, the risk is that of a
        wrong type at any depth. This attribute and the next four do not exist if no cells were held
        out, that is, if `threshold` is given and `calibration` is None.

    held_out_scores_ : dict of list of float
        "accuracy" and "macro_f1" of the held-out cells of each fold, as if all were assigned. Cells
        whose label is not a leaf of the `hierarchy` are left out, also of `simulated_scores_` and
        `calibration_error_`.

    simulated_scores_ : dict of list of float
        The same scores in simulated laboratories, one for each fold in each laboratory. The lists are empty if
        there are none.

    holds_out_groups_ : bool
        Whether whole groups were held out.

    calibration_error_ : dict of float
        The expected calibration error "before" and "after" the division by the temperature, on the cells from
        which it is learned.

    n_features_in_ : int
        The number of genes seen in `fit`, if the estimator has this attribute.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`, if the estimator has them.

    See Also
    --------
    sklearn.calibration.CalibratedClassifierCV : Calibration alone.
    sklearn.model_selection.TunedThresholdClassifierCV : A threshold between two classes.
    sklearn_cells.metrics.risk_coverage_curve : Error against share of cells kept.

    Notes
    -----
    The logits are log(p + 1e-12) of the probabilities of the estimator. If it has no `predict_proba`, they are
    the values of its decision function (for two classes, 0 and the value); before calibration, the softmax of
    these values is not a probability. The temperature is that of greatest likelihood [1]_, as scikit-learn
    computes it. If every held-out cell is predicted correctly, no temperature has the greatest likelihood, as
    sharper probabilities are always better.

    Abstaining by the greatest probability is Chow's rule [2]_. It detects cells that lie between the types, but
    not every cell of a type that was absent from training: some look like a known type. On average, the target
    error holds for cells like those from which the threshold is learned: cells of new donors with `groups`,
    cells of simulated laboratories with an estimator that was trained on them, and otherwise only cells of the
    training experiment. `confidence_level` covers the chance of which cells were held out, by binomial tests in
    a fixed order [3]_. It treats held-out cells as independent, and the copies, which are trained on fewer
    cells, as the estimator itself. It does not cover the chance of which donors are held out with `groups`, or
    of which laboratories are simulated: if there are few of these, the error elsewhere can be greater.

    With a `hierarchy`, the probability of a type is the sum over the leaves below it. The type of a cell is
    found from the top: at each type, the most probable child is next, as long as its evidence is at least the
    threshold. A type that covers a large share s of the K classes is probable without any evidence. The
    evidence of a type of probability p is therefore 1 - (1 - p) (1 - 1/K) / (1 - s): this is p for a leaf, and
    1/K for all types if all leaves are equally probable.

    Each class of two or more cells is held out, even if it has fewer cells than there are folds. A
    held-out cell is left out if its class has no cell in the training fold, as in a class of one cell.
    The others count equally, whatever weights are passed to the estimator.

    `score` is the accuracy, with unassigned cells counted as errors. To search over parameters of the
    estimator, scores of probabilities, such as "neg_log_loss", are more informative.

    Besides the fitted estimators, `fit` and `predict` hold a few float64 arrays of n_cells x n_classes.
    `X`, including backed AnnData, is passed to the estimator unchanged.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural
       networks", ICML 2017, 1321-1330.
    .. [2] C. K. Chow, "On optimum recognition error and reject tradeoff", IEEE Transactions on
       Information Theory 16 (1970), 41-46.
    .. [3] A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan and L. Lei, "Learn then test:
       calibrating predictive algorithms to achieve risk control", Annals of Applied Statistics 19
       (2025), 1641-1662.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_cells import RejectOptionClassifier
    >>> X = [[0], [1], [2], [3], [4], [5], [6], [7]]
    >>> y = ["B", "B", "B", "T", "B", "T", "T", "T"]
    >>> classifier = RejectOptionClassifier(LogisticRegression(), threshold=0.8, cv=2, random_state=0)
    >>> classifier.fit(X, y).predict([[0], [3], [7]])
    array(['B', 'Unassigned', 'T'], dtype='<U10')
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict_proba"]), HasMethods(["fit", "decision_function"])],
        "threshold": [Interval(Real, 0, 1, closed="both"), None],
        "target_error": [Interval(Real, 0, 1, closed="left"), None],
        "target_coverage": [Interval(Real, 0, 1, closed="right"), None],
        "confidence_level": [Interval(Real, 0, 1, closed="neither"), None],
        "hierarchy": [CellTypeTree, None],
        "calibration": [StrOptions({"temperature"}), None],
        "cv": ["cv_object"],
        "n_laboratories": [Interval(Integral, 0, None, closed="left")],
        "unassigned_label": [str, Integral, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        threshold: float | None = None,
        target_error: float | None = None,
        target_coverage: float | None = None,
        confidence_level: float | None = 0.9,
        hierarchy: CellTypeTree | None = None,
        calibration: str | None = "temperature",
        cv: Any = 5,
        n_laboratories: int = 3,
        unassigned_label: str | int | None = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.threshold = threshold
        self.target_error = target_error
        self.target_coverage = target_coverage
        self.confidence_level = confidence_level
        self.hierarchy = hierarchy
        self.calibration = calibration
        self.cv = cv
        self.n_laboratories = n_laboratories
        self.unassigned_label = unassigned_label
        self.n_jobs = n_jobs
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)  # the estimator is not validated yet
    def fit(self, X: CellsLike, y: ArrayLike, **fit_params: Any) -> Self:
        """Fit the estimator on all cells, and learn temperature and threshold from held-out cells.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            The cells, in a form that the estimator takes.

        y : array-like of shape (n_cells,)
            The class of each cell: strings or integers. With a `hierarchy`, types of the tree.

        **fit_params : dict
            Passed to `fit` of the estimator; in each fold, arrays with a value for each cell are reduced to the
            training cells. `groups`, the donor, batch or laboratory of each cell, goes to the splitter instead.
            With scikit-learn's metadata routing enabled, estimator and splitter get what they request.

        Returns
        -------
        self : RejectOptionClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If more than one of `threshold`, `target_error` and `target_coverage` is given, `unassigned_label` is
            a class or not of the type of the classes, no class has as many cells as there are folds, or the
            estimator cannot use `X` and `y`.

        Warns
        -----
        UserWarning
            If no threshold reaches the target error, and the one with the lowest error is used; or if the
            held-out cells are too few or too often wrong to reach it at `confidence_level`, and the threshold is
            the one without a confidence level.
        """
        refuse_other_objects(X)
        with all_or_nothing(self), once_per_call():
            check_one_target(self)
            check_same_order(X, y)
            X = X if isinstance(X, Cells) else indexable(X)[0]
            labels, codes = checked_labels(self, y, len(X) if isinstance(X, Sequence) else X.shape[0])
            unassigned_label = checked_label(self.unassigned_label, labels)
            fit_params, split_params = self._routed(fit_params)
            check_same_order(X, split_params.get("groups"), y_name="groups")
            holds_out = self.threshold is None or self.calibration is not None
            splits = splits_of(self.cv, X, labels, codes, split_params, self.random_state) if holds_out else []

            task_info = {"estimator": self, "X": X, "y": y}
            context = self._init_callback_context(max_subtasks=1 + len(splits)).call_on_fit_task_begin(**task_info)
            task = context.subcontext(task_name="all cells")
            estimator = fitted(task, self, clone(self.estimator), X, labels[codes], fit_params)
            names = names_of(self, estimator, labels)
            self.temperature_, self.threshold_ = 1.0, self.threshold
            if holds_out:
                self.holds_out_groups_ = split_params.get("groups") is not None
                n_laboratories = self.n_laboratories if split_params.get("groups") is None else 0
                rng = check_random_state(self.random_state)
                seeds = rng.randint(np.iinfo(np.int32).max, size=(len(splits), n_laboratories)).tolist()
                true, classes = labels[codes], estimator.classes_
                logits = held_out_logits(context, self, X, true, classes, fit_params, splits, seeds)
                self._learn_from(logits, [true[test] for _, test in splits], classes, names)
            self.hierarchy_ = self.hierarchy
            self.classes_, self.unassigned_label_, self.estimator_ = estimator.classes_, unassigned_label, estimator
            context.call_on_fit_task_end(**task_info)
        return self

    def _routed(self, fit_params):
        """Return the parameters for `fit` of the estimator, and those for `split` of the splitter."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **fit_params)
            return routed.estimator.fit, routed.splitter.split
        split_params = {"groups": fit_params.pop("groups")} if "groups" in fit_params else {}
        return fit_params, split_params

    def _learn_from(self, logits, labels, classes, names):
        """Learn temperature and threshold from the held-out cells of all folds, and store their scores."""
        folds = list(zip(labels, logits, strict=True))
        self.held_out_scores_ = scores_of([(truth, views[0]) for truth, views in folds], classes)
        simulated = [(truth, view) for truth, views in folds for view in views[1:]]
        self.simulated_scores_ = scores_of(simulated, classes)
        learned_from = simulated or [(truth, views[0]) for truth, views in folds]
        labels, logits = (np.concatenate(parts) for parts in zip(*learned_from, strict=True))
        codes, before = only_leaves(labels, softmax(logits, axis=1), classes)
        if self.calibration is not None and (before.argmax(axis=1) != codes).any():
            self.temperature_ = 1 / float(TemperatureScaling().fit(logits[np.isin(labels, classes)], codes).beta_)
        after = softmax(logits / self.temperature_, axis=1)
        paths, truth = names.paths(after), names.index(labels)
        n_views = self.n_laboratories if simulated else 1
        curve = ErrorCurve(paths.evidence[:, 0], paths.wrong_from(truth, names.right), n_views)
        if self.threshold is None:
            self.threshold_ = curve.chosen(self.target_error, self.target_coverage, self.confidence_level)
        self.risk_coverage_ = curve.table()
        numbers = np.arange(len(classes))
        self.calibration_error_ = {
            name: expected_calibration_error(codes, values, labels=numbers) if len(codes) else np.nan
            for name, values in (("before", before), ("after", only_leaves(labels, after, classes)[1]))
        }

    def predict_proba(self, X: CellsLike) -> NDArray[np.floating]:
        """Predict the calibrated probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            As for `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_cells, n_classes), dtype float64
            In the order of `classes_`, also for cells that `predict` leaves unassigned; each row
            sums to one.
        """
        check_is_fitted(self)
        if len(self.estimator_.classes_) != len(self.classes_):
            raise ValueError(
                f"The inner classifier now has the classes {self.estimator_.classes_.tolist()}, but had "
                f"{self.classes_.tolist()} when the threshold was set: fit this RejectOptionClassifier again."
            )
        return softmax(logits_of(self.estimator_, X, self.classes_) / self.temperature_, axis=1)

    def predict(self, X: CellsLike) -> NDArray:
        """Predict the class of each cell, or leave it unassigned.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            As for `fit`.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The most probable class, or `unassigned_label_` if its probability is below `threshold_`.
            With a `hierarchy`, the deepest type whose evidence is not below it.
        """
        return self.assign(self.predict_proba(X))

    def assign(self, probabilities: ArrayLike) -> NDArray:
        """Return the labels of cells from their probabilities.

        Parameters
        ----------
        probabilities : array-like of shape (n_cells, n_classes)
            As `predict_proba` returns them.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            As `predict` returns them.
        """
        return self.assign_with_confidence(probabilities)[0]

    def assign_with_confidence(self, probabilities: ArrayLike) -> tuple[NDArray, NDArray[np.floating]]:
        """Return the labels of cells from their probabilities, and the probability of each label.

        Parameters
        ----------
        probabilities : array-like of shape (n_cells, n_classes)
            As `predict_proba` returns them.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            As `predict` returns them.

        confidence : ndarray of shape (n_cells,), dtype float64
            The probability of the label; for an unassigned cell, that of the label that was rejected.
        """
        check_is_fitted(self)
        ends, confidence = self._names().paths(probabilities).ends(self.threshold_)
        return np.append(self.names_, self.unassigned_label_)[ends], confidence

    def score(self, X: CellsLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the share of cells with a correct label, counting unassigned cells as errors.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            As for `fit`.

        y : array-like of shape (n_cells,)
            The class of each cell. With a `hierarchy`, labels are judged as in
            :func:`~sklearn_cells.metrics.hierarchical_accuracy`.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        Returns
        -------
        score : float
            From 0 to 1.
        """
        predicted = self.predict(X)
        tree = getattr(self, "hierarchy_", None)
        if tree is None:
            return accuracy_score(y, predicted, sample_weight=sample_weight)
        options = {"sample_weight": sample_weight, "unassigned_label": self.unassigned_label_}
        return hierarchical_accuracy(y, predicted, hierarchy=tree, **options)

    @property
    def names_(self) -> NDArray:
        """The labels that assigned cells can have."""
        return self._names().names

    def _names(self):
        tree = getattr(self, "hierarchy_", None)  # older pickles have none
        return NamesOfClasses(self.classes_) if tree is None else NamesInTree(tree, self.classes_)

    @property
    def n_features_in_(self) -> int:
        """The number of genes seen in `fit`."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """The gene names seen in `fit`, if the cells had any."""
        return self.estimator_.feature_names_in_

    def get_metadata_routing(self) -> MetadataRouter:
        """Return where the parameters of `fit` go when metadata routing is enabled.

        Returns
        -------
        routing : MetadataRouter
            The routing to `fit` of the estimator and `split` of the splitter.
        """
        # With a number of folds, groups can be passed too.
        splitter = StratifiedGroupKFold() if self.cv is None or isinstance(self.cv, Integral) else self.cv
        return (
            MetadataRouter(owner=self)
            .add(estimator=self.estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
            .add(splitter=splitter, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        )

    def _pack_parameters(self, parameters):
        """Return the parameters for a model file, without a splitter, which prediction does not use."""
        return parameters | {"cv": self.cv if isinstance(self.cv, Integral) else None}

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags
