"""The method `embed` of models that contain a network."""

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._typing import CellsLike


def _held_in(model):
    return model[-1] if isinstance(model, Pipeline) else getattr(model, "estimator_", model.estimator)


class EmbeddingMixin:
    """Add the method `embed` of the classifier to pipelines and reject options."""

    @available_if(lambda model: hasattr(_held_in(model), "embed"))
    def embed(self, X: CellsLike) -> NDArray[np.float32]:
        """Return the last hidden layer of the network, see :meth:`KerasCellClassifier.embed`.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            As for `predict`.

        Returns
        -------
        embedding : ndarray of shape (n_cells, n_units), dtype float32
            For `adata.obsm["X_cells"]`.
        """
        check_is_fitted(self)
        return self._embed(X)

    def _embed(self, X):
        return _held_in(self).embed(X)
