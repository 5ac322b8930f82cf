"""save_model and load_model: a fitted model in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from tempfile import TemporaryDirectory
from typing import Any

from sklearn.base import BaseEstimator

from sklearn_cells import __version__
from sklearn_cells._files import atomic_path
from sklearn_cells._installed import installed_models, model_path, refuse_pickle
from sklearn_cells._models import check_model
from sklearn_cells.persistence._archive import CARD, MODEL, Archive, ModelFileError, write_archive
from sklearn_cells.persistence._card import ModelCard, card_of_fitted
from sklearn_cells.persistence._download import check_sha256, downloaded
from sklearn_cells.persistence._encoding import Encoder, decode

# The libraries whose versions are saved.
LIBRARIES = ("scikit-learn", "numpy", "keras", "tensorflow")


def save_model(
    model: BaseEstimator, path: str | os.PathLike, *, card: dict[str, Any] | None = None, overwrite: bool = False
) -> None:
    """Save a fitted model to a single file, which runs no code when it is loaded.

    Parameters
    ----------
    model : estimator
        A fitted estimator of sklearn_cells, or a pipeline of them.

    path : str or path
        The file to write, usually with the extension `.cellmodel`. It appears whole or not at all.

    card : dict, default=None
        What a user of the model should know, as :func:`training_card` returns it: any JSON values.
        None takes the card that the model was loaded with, if it was not trained since; otherwise a card
        of what the model knows: its classes and genes, how many cells of each class its selector counted,
        and the scores and the threshold of a reject option that held cells out.

    overwrite : bool, default=False
        Whether an existing file may be replaced.

    Raises
    ------
    TypeError
        If the model holds something that such a file cannot hold: another estimator, a function among
        the parameters, a RandomState, or a Keras network that the parameters do not describe. The
        message names the step.

    ValueError
        If a parameter is not valid, a pipeline caches its steps (`memory`), or the name of the file is
        that of a pickle, such as `model.joblib`.

    FileExistsError
        If the file exists and `overwrite` is False.

    FileNotFoundError
        If the folder to write to is missing.

    See Also
    --------
    load_model : Loads it.
    joblib.dump : Saves any estimator, as a pickle, which can run any code when it is loaded.

    Notes
    -----
    The file is a zip archive: `manifest.json` with the number of the format, the versions of the
    libraries and the SHA-256 of each member, `model.json` with parameters and fitted attributes,
    `card.json`, and arrays as `.npy`. It ends with the SHA-256 of all bytes before. This guards
    against damage, not against somebody who writes another file: it is not a signature.

    Parameters, what `partial_fit` needs to continue, and the count table of the selector are saved.
    scikit-learn's callbacks are left out. The same model and card give the same bytes.

    Besides the model, memory is needed for a copy of its network, and for two copies of the largest array.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_cells import LogNormalizer, load_model, save_model
    >>> normalizer = LogNormalizer().fit([[1.0, 4.0], [0.0, 2.0]])
    >>> with TemporaryDirectory() as folder:
    ...     save_model(normalizer, f"{folder}/depth.cellmodel", card={"name": "depth of two cells"})
    ...     loaded = load_model(f"{folder}/depth.cellmodel")
    >>> loaded.target_sum_, loaded.card_["name"]
    (3.5, 'depth of two cells')
    """
    check_model(model)
    refuse_pickle(path)
    card = _checked_card(card_of_fitted(model) if card is None else card)
    encoder = Encoder()
    content = encoder.estimator(model, type(model).__name__)
    arrays = ((_array_name(i), array) for i, array in enumerate(encoder.arrays))
    with atomic_path(path, overwrite=overwrite) as temporary:
        write_archive(temporary, [(MODEL, content), (CARD, card), *arrays], {"versions": _versions()})
        with Archive(temporary):  # a file that cannot be read again must not appear
            pass


def load_model(path: str | os.PathLike, *, sha256: str | None = None) -> Any:
    """Load a model that :func:`save_model` wrote.

    No code from the file is run: it holds only data, and the names of estimators from a fixed list.

    Parameters
    ----------
    path : str or path
        The file, the name of a model that comes with the package, such as "sorted_blood", or an address
        that begins with https:// or http://, which is downloaded each time and not kept.

    sha256 : str, default=None
        The SHA-256 checksum of the file, as 64 hexadecimal digits. A file with another checksum is
        refused. Required for an address.

    Returns
    -------
    model : estimator
        The model as it was saved. With the same versions of the libraries, on the same kind of machine,
        it predicts the same probabilities to the last bit, and `partial_fit` continues the training. Its
        card is the attribute `card_`; `print(model.card_)` shows it.

    Raises
    ------
    TypeError
        If `path` is neither a string nor a path, or `sha256` is not a string.

    FileNotFoundError
        If there is no such file.

    ValueError
        If the file is damaged, of a newer format, or not a model file; the message says which, and
        what to do. Also if it has another checksum, or if `path` is an address and `sha256` is None.

    OSError
        If an address cannot be read.

    See Also
    --------
    read_card : Reads only the card.

    Notes
    -----
    Files written with other versions of scikit-learn, Keras or TensorFlow load without a warning as long
    as the format is known: they hold numbers and parameters, not the internals of these libraries. The
    versions are in the card. With other versions, probabilities can differ in the last bits, and
    `partial_fit` can restart the optimizer.

    Checksums guard against damage, not against a forged file, which can have any checksums. Even then,
    nothing is run, nothing is written elsewhere, and a file that would unpack to more than 256 MB plus
    100 times its size is refused; but the model may label cells as its author likes.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_cells import LogNormalizer, load_model, save_model
    >>> with TemporaryDirectory() as folder:
    ...     save_model(LogNormalizer().fit([[1.0]]), f"{folder}/log.cellmodel")
    ...     load_model(f"{folder}/log.cellmodel")
    LogNormalizer()
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"Expected the path of a model file, the name of a model or an address, got {type(path).__name__}."
        )
    if not isinstance(sha256, str | None):
        raise TypeError(f"Expected sha256 as a str of 64 hexadecimal digits, got {type(sha256).__name__}.")
    if "://" in os.fspath(path):
        with TemporaryDirectory() as folder:
            return load_model(downloaded(os.fspath(path), folder, sha256))
    if sha256 is not None:
        check_sha256(model_path(path), sha256)
    with _opened(path) as archive:
        model = decode(archive.json(MODEL), lambda number: archive.array(_array_name(number)), archive.format_version)
        if not isinstance(model, BaseEstimator):
            raise ValueError("It holds no estimator.")
        model.card_ = _card_of(archive)
    return model


def read_card(path: str | os.PathLike) -> ModelCard:
    """Read the card of a model file without loading the model.

    Parameters
    ----------
    path : str or path
        The file, or the name of a model that comes with the package.

    Returns
    -------
    card : ModelCard
        A dict that prints as a short table, with the `versions` of the libraries that wrote the
        file; see :func:`training_card` for what else is in it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If the file is damaged, of a newer format, or not a model file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_cells import LogNormalizer, save_model
    >>> from sklearn_cells.persistence import read_card
    >>> with TemporaryDirectory() as folder:
    ...     save_model(LogNormalizer().fit([[1.0]]), f"{folder}/log.cellmodel", card={"name": "logs"})
    ...     read_card(f"{folder}/log.cellmodel")["name"]
    'logs'
    """
    with _opened(path) as archive:
        return _card_of(archive)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Archive]:
    """Open a model file, and name it in the error if its content is not that of a model."""
    found = model_path(path)
    if not found.exists():
        raise FileNotFoundError(
            f"No model file found at {found}. Pass the path of a model file, or the name of an installed model: "
            f"{', '.join(installed_models())}."
        )
    try:
        with Archive(found) as archive:
            yield archive
    except (ModelFileError, OSError, ImportError, MemoryError):  # their messages are complete
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is intact, but sklearn_cells {__version__} cannot load its content: {type(error).__name__}: "
            f"{error}"
        ) from error


def _card_of(archive: Archive) -> ModelCard:
    return ModelCard({**archive.json(CARD), "versions": archive.versions})


def _checked_card(card: dict[str, Any]) -> dict[str, Any]:
    card = {key: value for key, value in card.items() if key != "versions"}  # of an earlier file
    try:
        json.dumps(card, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"card must hold only JSON values, such as strings, lists and finite numbers: {error}."
        ) from error
    return card


def _array_name(number: int) -> str:
    return f"arrays/{number}.npy"


def _versions() -> dict[str, str]:
    return {"sklearn_cells": __version__} | {name: version(name) for name in LIBRARIES}
