"""The predictions of a classifier with a network, which comes from `fit`, from Keras or from a file."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._blocks import READ_VALUES
from sklearn_cells._cells import check_cells, check_genes
from sklearn_cells._dask import map_blocks
from sklearn_cells._empty_cells import warn_of_empty_cells
from sklearn_cells._typing import CellsLike, RandomState
from sklearn_cells._warnings import once_per_call
from sklearn_cells.metrics import hierarchical_accuracy
from sklearn_cells.neural_network._class_weights import prior_ratios, shares, with_priors
from sklearn_cells.neural_network._input import sorted_csr
from sklearn_cells.neural_network._laboratory import Laboratory
from sklearn_cells.neural_network._pickled import PackedNetwork
from sklearn_cells.neural_network._process import FIT_LOCK, check_process
from sklearn_cells.neural_network._view_network import PredictingNetwork

# TensorFlow, and modules that need it, are imported where they are used: the networks that make_cell_pipeline
# recommends predict without TensorFlow.


def _totals(X):
    """Return the total of each cell over the measured genes, or another number that is zero only if the total is."""
    if not sp.issparse(X):
        return np.nansum(X, axis=1)
    X = X.tocsr()
    if (X.data > 0).all():
        return np.diff(X.indptr)
    if np.isnan(X.data).any():
        X = type(X)((np.nan_to_num(X.data), X.indices, X.indptr), shape=X.shape)
    return X @ np.ones(X.shape[1])


def _predicted(method, classifier, block):
    return getattr(classifier, method)(block)


class FittedNetwork(ClassifierMixin, BaseEstimator):
    """The prediction methods of a classifier whose network is `model_`."""

    def predict_proba(self, X: CellsLike) -> NDArray[np.floating]:
        """Predict the probability of each class.

        With `class_weight="balanced"`, the default, the probabilities assume that all classes are equally
        frequent. The parameter `priors` changes this; it can also be set after `fit`.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            Expression, normalised as for `fit`. NaN stands for a gene that was not measured.

        Returns
        -------
        probabilities : ndarray of shape (n_cells, n_classes), dtype float32
            The probabilities in the order of `classes_`. Each row sums to one. With `dtype="float64"`, they are
            float64.
        """
        check_is_fitted(self)
        return self._by_blocks("predict_proba", self._network, X)

    def embed(self, X: CellsLike) -> NDArray[np.float32]:
        """Return the values of the last hidden layer, in which cells of the same type are close together.

        They can replace principal components in a search for the neighbours of cells:
        `adata.obsm["X_cells"] = model.embed(adata)`, then `sc.pp.neighbors(adata, use_rep="X_cells")` in scanpy.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            Expression, normalised as for `fit`.

        Returns
        -------
        embedding : ndarray of shape (n_cells, n_units), dtype float32
            The values that the units pass to the output layer. With `home_network`, they come from the network
            for any laboratory.

        Raises
        ------
        ValueError
            If the network has no hidden layer, or more than one output layer.
        """
        check_is_fitted(self)
        return self._by_blocks("embed", self._hidden, X).astype(np.float32, copy=False)

    def _hidden(self):
        """Return a function from a block of cells to the values of the last hidden layer."""
        network = self._view_network()
        if network is None:
            from sklearn_cells.neural_network._forward import hidden_of

            check_process()
            hidden = hidden_of(self.model_, getattr(self, "means_", None))
        else:
            hidden = network.hidden if network.layers else None
        if hidden is None:
            raise ValueError(
                "embed needs a network with a hidden layer before a single output layer, and this network has none: "
                "set hidden_layer_sizes=(128,), and call fit."
            )
        return hidden

    def _by_blocks(self, method, network, X):
        """Return the output of a network, block by block; the method itself is called on blocks of Dask."""
        cells = self._check_cells(X, reset=False)
        if cells.is_dask:
            with once_per_call():
                return np.concatenate([*map_blocks(partial(_predicted, method), self, cells)])
        network, laboratory = network(), getattr(self, "_laboratory", None)
        blocks = (block for _, block in cells.blocks(READ_VALUES // 4))
        return np.concatenate([network(block if laboratory is None else laboratory(block)) for block in blocks])

    def in_laboratory(self, random_state: RandomState = None) -> Self:
        """Return a copy of the fitted classifier that sees cells as another laboratory would show them.

        Its predictions for held-out cells show how well the classifier works in other laboratories. The
        laboratory is simulated with the `gene_noise`, `program_noise` and `missing_genes` of training; totals
        are those of the changed counts. The copy is only for prediction: it cannot be saved as a model file.

        Parameters
        ----------
        random_state : int, RandomState instance or None, default=None
            Determines the laboratory.

        Returns
        -------
        classifier : KerasCellClassifier
            A copy that shares the networks of this classifier.

        Raises
        ------
        ValueError
            If the classifier was trained without any of this noise.
        """
        check_is_fitted(self)
        views = self._views()
        if views is None or not (views.gene_noise or views.program_noise or views.missing_genes):
            raise ValueError(
                "in_laboratory needs a classifier trained on simulated laboratories, such as the one in "
                "make_cell_pipeline(): set views and gene_noise, and call fit."
            )
        seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        classifier = copy(self)
        classifier._laboratory = Laboratory(views, seed)
        return classifier

    def _network(self):
        """Return a function from a block of cells to its probabilities, from both networks if there are two."""
        of_any = self._network_alone(self.priors)
        if getattr(self, "gate_", None) is None:
            return of_any
        of_home = self.home_._network_alone(self.priors)

        def _mixed(X):
            X = sorted_csr(X)
            return self.gate_.mixed(X, of_any(X), of_home(X))

        return _mixed

    def _network_alone(self, priors):
        """Return a function from a block of cells to its probabilities, from this network only."""
        predict = self._view_network() or self._keras_network()
        ratios = None
        if priors is not None:
            ratios = prior_ratios(priors, self.classes_, shares(self._class_counts), self._as_trained)

        def _probabilities(X):
            probabilities = predict(X)[:, self._output_order]
            return probabilities if ratios is None else with_priors(probabilities, ratios)

        return _probabilities

    def _view_network(self):
        """Return a network that predicts without Keras, or None if that is not possible."""
        if "model_" not in vars(self):
            return self._saved_network.view_network()
        if self.architecture != "mlp":
            return None
        from sklearn_cells.neural_network._forward import view_network_of

        return view_network_of(self.model_)

    def _keras_network(self):
        """Return a function that predicts with Keras."""
        from sklearn_cells.neural_network._forward import outputs_of

        check_process()
        return lambda X: outputs_of(self.model_, X, getattr(self, "means_", None))

    def _views(self):
        """Return the weights of the views of the network, or None if it has none."""
        if "model_" not in vars(self):
            return self._saved_network.views()
        from sklearn_cells.neural_network._count_views import views_of

        views = views_of(self.model_)
        return None if views is None else views.weights_as_arrays()

    @cached_property
    def model_(self) -> Any:
        """The network. For a classifier from a model file, it is built at first access.

        Returns
        -------
        model : keras.Model
            If its weights are changed, predictions use the changed weights.
        """
        if "_saved_network" not in vars(self):
            raise AttributeError(f"This {type(self).__name__} is not fitted, so it has no model_: call fit first.")
        with FIT_LOCK:
            return vars(self)["model_"] if "model_" in vars(self) else self._saved_network.model()

    def __dir__(self):
        # scikit-learn reads the value of each name, which would build the network.
        names = object.__dir__(self)
        return [name for name in names if name in vars(self) or (name != "model_" and hasattr(self, name))]

    def novelty_of(self, X: CellsLike, y_proba: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return how much each cell differs from the training cells of its predicted class.

        Cells of a type that was not in training are far from the mean of the type that they are assigned, even
        if the network is certain. Sort cells by novelty, or look at those above about 0.95. In cells of another
        laboratory, known types also have a higher novelty than in training.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            Counts, as for `fit`.

        y_proba : array-like of shape (n_cells, n_classes), default=None
            The probabilities of these cells, if already computed. None predicts them.

        Returns
        -------
        novelty : ndarray of shape (n_cells,), dtype float64
            The share of held-out training cells that are closer to the mean of their own type than this cell is
            to the mean of its predicted type, from 0 to 1.

        Raises
        ------
        ValueError
            If `fit` did not learn the novelty of cells.
        """
        check_is_fitted(self)
        if not hasattr(self, "novelty_"):
            raise ValueError(
                "novelty_of needs a classifier fitted with novelty=True, on cells labelled with its classes. Set "
                "novelty=True and call fit; partial_fit does not learn novelty."
            )
        codes = np.argmax(self.predict_proba(X) if y_proba is None else np.asarray(y_proba), axis=1)
        return self.novelty_.of_cells(self._views(), self._check_cells(X, reset=False), codes)

    def predict(self, X: CellsLike) -> NDArray:
        """Predict the class of each cell.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            Expression, normalised as for `fit`.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The most probable class, by `predict_proba`.
        """
        return self.assign(self.predict_proba(X))

    def assign(self, probabilities: ArrayLike) -> NDArray:
        """Return the labels of cells from their probabilities.

        Parameters
        ----------
        probabilities : array-like of shape (n_cells, n_classes)
            The probabilities that `predict_proba` returns.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The most probable class, as `predict` returns it.
        """
        check_is_fitted(self)
        return self.classes_[np.asarray(probabilities).argmax(axis=1)]

    def score(self, X: CellsLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the share of cells whose predicted class is correct.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            Expression, normalised as for `fit`.

        y : array-like of shape (n_cells,)
            The class of each cell. With a `hierarchy`, labels may be types at any depth, and a predicted class
            is correct if it is the label or lies below it.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        Returns
        -------
        score : float
            The weighted share of correct predictions, from 0 to 1.
        """
        check_is_fitted(self)
        if self.hierarchy_ is None:
            return super().score(X, y, sample_weight)
        return hierarchical_accuracy(
            y, self.predict(X), hierarchy=self.hierarchy_, sample_weight=sample_weight, unassigned_label=None
        )

    @classmethod
    def from_keras(cls, model: Any, *, classes: Iterable[Any], feature_names: Iterable[str] | None = None) -> Self:
        """Make a fitted classifier from a trained Keras model.

        Parameters
        ----------
        model : str, path or keras.Model
            A model that takes one vector of genes per cell and ends in a softmax, or the file of such a model:
            `.keras`, or `.h5` as written by Keras 2 or 3.

        classes : array-like of shape (n_classes,)
            The class that each output of the model stands for.

        feature_names : array-like of shape (n_genes,), default=None
            The gene that each input of the model stands for. If given, cells with other gene names or another
            order of genes are rejected.

        Returns
        -------
        classifier : KerasCellClassifier
            A classifier that is ready to predict. Its `architecture` is a :class:`SavedArchitecture` of the
            model, so `fit`, also of a clone, trains a new network with the same layers. The other parameters
            have their defaults. It has no `means_` and rejects NaN, unless the model was trained by a
            KerasCellClassifier.

        Raises
        ------
        FileNotFoundError
            If there is no such file.

        ValueError
            If the file is not a Keras model, or the model does not match `classes` or `feature_names`.

        Examples
        --------
        >>> from sklearn_cells import KerasCellClassifier
        >>> from sklearn_cells.neural_network import build_mlp
        >>> model = build_mlp(3, 2, hidden_layer_sizes=(4,), seed=0)
        >>> classifier = KerasCellClassifier.from_keras(model, classes=["B", "T"])
        >>> classifier.predict_proba([[0.0, 0.0, 0.0]]).round(3)
        array([[0.5, 0.5]], dtype=float32)
        """
        from sklearn_cells.neural_network._keras_files import as_keras_model, attributes_of
        from sklearn_cells.neural_network._saved_architecture import SavedArchitecture

        check_process()
        model = as_keras_model(model)
        classifier = cls(SavedArchitecture(model))
        attributes = attributes_of(model, classes)
        if feature_names is not None:
            names = [str(name) for name in feature_names]
            if len(names) != attributes["n_features_in_"]:
                raise ValueError(
                    f"feature_names has {len(names)} names, but the model takes {attributes['n_features_in_']} genes. "
                    "Pass one name per gene."
                )
            check_genes(classifier, names)
        classifier.__dict__.update(attributes)
        return classifier

    def _check_cells(self, X, *, reset):
        dtype = np.float64 if self.dtype == "float64" else np.float32
        values = "any" if self.views is None else "nonnegative"
        cells = check_cells(X, estimator=self, reset=reset, dtype=dtype, values=values, allow_nan=True)
        if self.views is not None and not cells.is_dask:
            with once_per_call():
                for _, block in cells.blocks():
                    warn_of_empty_cells(_totals(block), cells.shape[1])
        return cells

    def _pack_state(self, state):
        """Return the fitted attributes to save."""
        if not self.__sklearn_is_fitted__():
            return state
        from sklearn_cells.neural_network._saved_state import packed

        return packed(self, state)

    def _unpack_state(self, state):
        """Restore the fitted attributes."""
        if "model_" not in state:
            return state
        from sklearn_cells.neural_network._saved_state import unpacked

        if "hierarchy_" not in state:  # older files have only the parameter
            state = state | {"hierarchy_": self.hierarchy}
        return unpacked(self, state)

    def _without_keras(self):
        """Return a copy that predicts without Keras in another process, or `self` if it already does or cannot."""
        if "model_" not in vars(self) or (network := self._view_network()) is None:
            return self
        copied = copy(self)
        del copied.__dict__["model_"]
        copied._saved_network = PredictingNetwork(network)
        if getattr(self, "home_", None) is not None:
            copied.home_ = self.home_._without_keras()
        return copied

    def __copy__(self):
        """Return a copy that shares the network, which the default would pack and unpack as a pickle does."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(vars(self))
        return copied

    def __getstate__(self):
        state = super().__getstate__()
        if "model_" not in state:
            return state
        state = {name: value for name, value in state.items() if name != "_saved_network"}
        return state | {"model_": PackedNetwork.of_model(state["model_"])}

    def __setstate__(self, state):
        if isinstance(state.get("model_"), tuple):
            *_, content = state["model_"]  # older pickles first have the function that builds the network
            state = state | {"model_": PackedNetwork(content).model()}
        if "model_" in state and "hierarchy_" not in state:  # older pickles have only the parameter
            state = state | {"hierarchy_": state.get("hierarchy")}
        super().__setstate__(state)

    def __sklearn_is_fitted__(self):
        return "model_" in vars(self) or "_saved_network" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags
