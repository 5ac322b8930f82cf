"""RejectOptionClassifier: cells that a classifier is not sure of become "Unassigned"."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
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
from sklearn_cells._models import default_unassigned_label
from sklearn_cells._validation import (
    HasMethods,
    Interval,
    StrOptions,
    TemperatureScaling,
    all_or_nothing,
    check_labels,
    fit_context,
)
from sklearn_cells._warnings import once_per_call, warn
from sklearn_cells.metrics import expected_calibration_error, macro_f1, risk_coverage_curve
from sklearn_cells.reject._held_out import fitted, held_out_logits, logits_of, splits_of


class RejectOptionClassifier(CallbackSupportMixin, MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Classify the cells that a classifier is sure of, and leave the others unassigned.

    The classifier is fitted on all cells. How its probabilities are calibrated, and how much the
    most probable class must have, is learned from copies of it and the cells that each did not see.

    Parameters
    ----------
    estimator : classifier
        With `predict_proba` or else `decision_function`, such as that of
        :func:`make_cell_pipeline` or `LinearSVC()`. A copy of it is fitted.

    threshold : float, default=None
        The least probability of the predicted class at which a cell is assigned, from 0 to 1.

    target_error : float, default=None
        Instead, the share of errors allowed among assigned cells. The threshold is the one that
        assigns most of the held-out cells with no more errors than that, as simulated laboratories
        show them where there are such (`n_laboratories`). Where none of `threshold`,
        `target_error` and `target_coverage` is given, 0.05.

    target_coverage : float, default=None
        Instead, the share of cells to assign. The threshold is the greatest that assigns this share
        of the held-out cells, shown likewise.

    calibration : {"temperature"} or None, default="temperature"
        Whether logits are divided by a temperature that makes the probabilities of held-out cells
        most likely. None leaves probabilities as they are.

    cv : int, splitter or iterable, default=5
        How cells are held out: in that many stratified folds of shuffled cells, or as in
        :func:`sklearn.model_selection.check_cv`. `StratifiedShuffleSplit(1)` fits once instead of
        five times. With `groups` in `fit`, such as the donor of each cell, whole groups are held out.

    n_laboratories : int, default=3
        The simulated laboratories that show the held-out cells of each fold, where the estimator
        was trained on such and `fit` gets no groups. Temperature and threshold are learned from
        what they show, so that they hold in other laboratories too. 0 takes the held-out cells as
        they are.

    unassigned_label : str or int, default=None
        The label of cells below the threshold in `predict`. None is "Unassigned" where classes are
        strings and -1 where they are numbers.

    n_jobs : int, default=None
        The folds that are fitted at the same time, as everywhere in scikit-learn.

    random_state : int, RandomState instance or None, default=None
        Determines the folds where `cv` is a number; not the estimator, which has its own.

    Attributes
    ----------
    estimator_ : classifier
        Fitted on all cells.

    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted, without the one of unassigned cells.

    threshold_ : float
        The least probability of the predicted class at which a cell is assigned.

    temperature_ : float
        What logits are divided by: above 1 the estimator was too sure, below 1 not sure enough. 1
        where `calibration` is None or no held-out cell was wrong.

    unassigned_label_ : str or int
        The label of cells below the threshold in `predict`.

    risk_coverage_ : DataFrame of shape (n_thresholds, 3)
        `threshold`, `coverage` and `risk` on the cells that the threshold is learned from, see
        :func:`sklearn_cells.metrics.risk_coverage_curve`. Not there where nothing was held out,
        that is with a given `threshold` and no calibration. This holds for the next four too.

    held_out_scores_ : dict of list of float
        "accuracy" and "macro_f1" of the held-out cells of each fold, as if all were assigned.

    simulated_scores_ : dict of list of float
        The same in simulated laboratories, each fold in each of them; empty without.

    holds_out_groups_ : bool
        Whether the held-out cells were those of whole groups.

    calibration_error_ : dict of float
        The expected calibration error "before" and "after" the division by the temperature, of the
        cells that it is learned from.

    n_features_in_ : int
        The number of genes seen in `fit`, where the estimator has it.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`, where the estimator has them.

    See Also
    --------
    sklearn.calibration.CalibratedClassifierCV : Calibration alone.
    sklearn.model_selection.TunedThresholdClassifierCV : A threshold between two classes.
    sklearn_cells.metrics.risk_coverage_curve : Error against share of cells kept.

    Notes
    -----
    The logits are log(p + 1e-12) of the probabilities of the estimator. Where it has none they are
    the values of its decision function, for two classes 0 and the value; their softmax is no
    probability before it is calibrated. The temperature is scikit-learn's, the one of greatest
    likelihood [1]_. Where no held-out cell is wrong there is none, as sharper is always better.

    Choosing to abstain by the greatest probability is Chow's rule [2]_. It knows the cells that lie
    between the types, not every cell of a type that was absent from training: some look like one
    of the known. The target error holds, in the mean, for cells like those that the threshold is
    learned from: those of new donors with `groups`, those of simulated laboratories with an estimator
    that was trained on them, else those of the training experiment alone. With a small number of
    held-out cells the chosen threshold is itself uncertain.

    Each class of two cells or more is held out, also with fewer cells than folds. A held-out cell
    whose class has no cell in its training fold, as that of a class of one cell, is not counted.
    The others count alike, whatever weights go to the estimator.

    `score` is the accuracy where an unassigned cell is an error. In searches over parameters of the
    estimator, scores that use probabilities, such as "neg_log_loss", say more.

    What `fit` holds beside the fitted estimators are some arrays of n_cells x n_classes float64, and
    `predict` likewise; `X` goes to the estimator as it comes, backed AnnData too.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural
       networks", ICML 2017, 1321-1330.
    .. [2] C. K. Chow, "On optimum recognition error and reject tradeoff", IEEE Transactions on
       Information Theory 16 (1970), 41-46.

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
        "calibration": [StrOptions({"temperature"}), None],
        "cv": ["cv_object"],
        "n_laboratories": [Interval(Integral, 0, None, closed="left")],
        "unassigned_label": [str, Integral, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator,
        *,
        threshold=None,
        target_error=None,
        target_coverage=None,
        calibration="temperature",
        cv=5,
        n_laboratories=3,
        unassigned_label=None,
        n_jobs=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.threshold = threshold
        self.target_error = target_error
        self.target_coverage = target_coverage
        self.calibration = calibration
        self.cv = cv
        self.n_laboratories = n_laboratories
        self.unassigned_label = unassigned_label
        self.n_jobs = n_jobs
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)  # the estimator is not validated yet
    def fit(self, X, y, **fit_params):
        """Fit the estimator on all cells, and learn temperature and threshold from held-out ones.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            What the estimator takes.

        y : array-like of shape (n_cells,)
            The class of each cell: strings or integers.

        **fit_params : dict
            Passed to `fit` of the estimator; of arrays with a value for each cell, those of the
            training cells. `groups`, the donor, batch or laboratory of each cell, goes to the splitter
            instead. With scikit-learn's metadata routing enabled, what each of them requests.

        Returns
        -------
        self : RejectOptionClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If more than one of `threshold`, `target_error` and `target_coverage` is given,
            `unassigned_label` is a class or not of their kind, no class has as many cells as there
            are folds, or the estimator cannot use `X` and `y`.

        Warns
        -----
        UserWarning
            If no threshold reaches the target error; the one of least error is used.
        """
        refuse_other_objects(X)
        with all_or_nothing(self), once_per_call():
            self._check_one_target()
            check_same_order(X, y)
            X = X if isinstance(X, Cells) else indexable(X)[0]
            classes, codes = check_labels(y, X.shape[0] if hasattr(X, "shape") else len(X))
            unassigned_label = _checked_label(self.unassigned_label, classes)
            fit_params, split_params = self._routed(fit_params)
            check_same_order(X, split_params.get("groups"), y_name="groups")
            holds_out = self.threshold is None or self.calibration is not None
            splits = splits_of(self.cv, X, classes, codes, split_params, self.random_state) if holds_out else []

            told = {"estimator": self, "X": X, "y": y}
            context = self._init_callback_context(max_subtasks=1 + len(splits)).call_on_fit_task_begin(**told)
            task = context.subcontext(task_name="all cells")
            estimator = fitted(task, self, clone(self.estimator), X, classes[codes], fit_params)
            if not np.array_equal(estimator.classes_, classes):
                raise ValueError(
                    f"The fitted estimator has the classes {list(estimator.classes_)}, but y has {classes.tolist()}: "
                    "pass cells of the same classes."
                )
            self.temperature_, self.threshold_ = 1.0, self.threshold
            if holds_out:
                self.holds_out_groups_ = split_params.get("groups") is not None
                n_laboratories = self.n_laboratories if split_params.get("groups") is None else 0
                rng = check_random_state(self.random_state)
                seeds = rng.randint(np.iinfo(np.int32).max, size=(len(splits), n_laboratories)).tolist()
                logits = held_out_logits(context, self, X, classes, codes, fit_params, splits, seeds)
                self._learn_from(logits, [codes[test] for _, test in splits])
            self.classes_, self.unassigned_label_, self.estimator_ = classes, unassigned_label, estimator
            context.call_on_fit_task_end(**told)
        return self

    def _check_one_target(self):
        given = {
            name: getattr(self, name)
            for name in ("threshold", "target_error", "target_coverage")
            if getattr(self, name) is not None
        }
        if len(given) > 1:
            found = " and ".join(f"{name}={value}" for name, value in given.items())
            raise ValueError(f"{found} are given, but one of them makes the threshold: set the others to None.")

    def _routed(self, fit_params):
        """Return what goes to `fit` of the estimator and what goes to `split`."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **fit_params)
            return routed.estimator.fit, routed.splitter.split
        split_params = {"groups": fit_params.pop("groups")} if "groups" in fit_params else {}
        return fit_params, split_params

    def _learn_from(self, logits, codes):
        """Learn temperature and threshold from the held-out cells of all folds, and keep what they say."""
        folds = list(zip(codes, logits, strict=True))
        self.held_out_scores_ = _scores([(truth, shown[0]) for truth, shown in folds])
        simulated = [(truth, one) for truth, shown in folds for one in shown[1:]]
        self.simulated_scores_ = _scores(simulated)
        learned_from = simulated or [(truth, shown[0]) for truth, shown in folds]
        codes, logits = (np.concatenate(parts) for parts in zip(*learned_from, strict=True))
        before = softmax(logits, axis=1)
        predicted = before.argmax(axis=1)
        if self.calibration is not None and (predicted != codes).any():
            self.temperature_ = 1 / float(TemperatureScaling().fit(logits, codes).beta_)
        after = softmax(logits / self.temperature_, axis=1)
        coverage, risk, thresholds = risk_coverage_curve(codes, predicted, after.max(axis=1))
        if self.threshold is None:
            self.threshold_ = float(self._chosen_threshold(coverage, risk, thresholds))
        self.risk_coverage_ = pd.DataFrame({"threshold": thresholds, "coverage": coverage, "risk": risk})
        labels = np.arange(logits.shape[1])
        self.calibration_error_ = {
            "before": expected_calibration_error(codes, before, labels=labels),
            "after": expected_calibration_error(codes, after, labels=labels),
        }

    def _chosen_threshold(self, coverage, risk, thresholds):
        if self.target_coverage is not None:
            return thresholds[np.flatnonzero(coverage >= self.target_coverage)[-1]]
        target = 0.05 if self.target_error is None else self.target_error
        reached = np.flatnonzero(risk <= target)
        if len(reached):
            return thresholds[reached[0]]
        best = risk.argmin()  # the first of equal ones has the greatest coverage
        warn(
            f"No threshold reaches an error of {target:g} among the assigned of the held-out cells: the least is "
            f"{risk[best]:.3g}, where {coverage[best]:.1%} of them are assigned, at the threshold "
            f"{thresholds[best]:.3g} that is used. Allow a greater target_error, or train a better classifier."
        )
        return thresholds[best]

    def predict_proba(self, X):
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
        return softmax(logits_of(self.estimator_, X, self.classes_) / self.temperature_, axis=1)

    def predict(self, X):
        """Predict the class of each cell, or that it is unassigned.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            As for `fit`.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The most probable class, or `unassigned_label_` where its probability is below
            `threshold_`.
        """
        return self.assign(self.predict_proba(X))

    def assign(self, probabilities):
        """Label cells whose probabilities are known.

        Parameters
        ----------
        probabilities : array-like of shape (n_cells, n_classes)
            As `predict_proba` returns them.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            As `predict` returns them.
        """
        check_is_fitted(self)
        probabilities = np.asarray(probabilities)
        assigned = probabilities.max(axis=1) >= self.threshold_
        labels = np.append(self.classes_, self.unassigned_label_)
        return labels[np.where(assigned, probabilities.argmax(axis=1), len(self.classes_))]

    @property
    def n_features_in_(self):
        """The number of genes in `fit`."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self):
        """The names of the genes in `fit`, where the cells had any."""
        return self.estimator_.feature_names_in_

    def get_metadata_routing(self):
        """Return which parameters of `fit` go where, when metadata routing is enabled.

        Returns
        -------
        routing : MetadataRouter
            To `fit` of the estimator and `split` of the splitter.
        """
        # A number of folds takes groups, too.
        splitter = StratifiedGroupKFold() if self.cv is None or isinstance(self.cv, Integral) else self.cv
        return (
            MetadataRouter(owner=self)
            .add(estimator=self.estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
            .add(splitter=splitter, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        )

    def _pack_parameters(self, parameters):
        """Return the parameters for a model file: a splitter has no part in prediction."""
        return parameters | {"cv": self.cv if isinstance(self.cv, Integral) else None}

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags


def _scores(folds):
    """Return accuracy and macro-F1 of each pair of codes and logits, as if all cells were assigned."""
    predictions = [(codes, logits.argmax(axis=1)) for codes, logits in folds]
    return {
        "accuracy": [float(accuracy_score(*pair)) for pair in predictions],
        "macro_f1": [macro_f1(*pair) for pair in predictions],
    }


def _checked_label(label, classes):
    """Return the label of unassigned cells, which must go into one array with the classes."""
    if classes.dtype.kind == "b":
        raise ValueError("The classes are booleans, which have no value left for unassigned cells: pass y.astype(str).")
    label = default_unassigned_label(classes) if label is None else label
    are_strings = isinstance(classes[0], str)
    if isinstance(label, str) != are_strings:
        raise ValueError(
            f"unassigned_label={label!r} cannot stand beside the classes {classes[:3].tolist()} in one array: pass "
            f"{'a string' if are_strings else 'an integer'}."
        )
    if label in classes:
        other = "unknown" if are_strings else int(max(classes)) + 1
        raise ValueError(
            f"{label!r} is one of the classes, but also the label of cells that are left unassigned: rename the class "
            f"or leave its cells out, or set unassigned_label={other!r}."
        )
    return label
