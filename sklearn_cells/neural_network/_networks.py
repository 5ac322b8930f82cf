"""Functions that build the network, the optimizer and the trainer that the parameters of a classifier describe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_cells.neural_network._architectures import build_cnn, build_mlp
from sklearn_cells.neural_network._forward import forward
from sklearn_cells.neural_network._keras_files import check_classifier_model
from sklearn_cells.neural_network._layers import layers_of, learned_weights, output_layers, settle, with_input_norm
from sklearn_cells.neural_network._objective import Objective, TreeObjective
from sklearn_cells.neural_network._process import check_process, seeded
from sklearn_cells.neural_network._quiet_tensorflow import keras, layers
from sklearn_cells.neural_network._saved_network import SavedNetwork
from sklearn_cells.neural_network._shapes import NETWORK_PARAMETERS, NOISE_PARAMETERS
from sklearn_cells.neural_network._trainers import shared_trainer
from sklearn_cells.neural_network._training import Trainer, optimizer_settings

BUILDERS: dict[str, Callable[..., keras.Model]] = {"mlp": build_mlp, "cnn": build_cnn}
# These parameters do not change the graph of a network.
L2_PARAMETERS = ("kernel_l2", "bias_l2", "conv_l2")


def check_views(classifier) -> None:
    """Raise if parameters are set that need views or a perceptron, and the classifier has none."""
    if classifier.views is not None and classifier.architecture == "mlp":
        return
    is_mlp = classifier.architecture == "mlp"
    given = [name for name in (*NOISE_PARAMETERS, "home_network", "novelty") if getattr(classifier, name)]
    given += ["linear_path"] if classifier.linear_path and not is_mlp else []
    if classifier.views is not None or given:
        settings = ", ".join(f"{name}={getattr(classifier, name)!r}" for name in ("architecture", "views", *given))
        remedy = "Set views='depth_free' and pass counts" if is_mlp else "Set architecture='mlp'"
        raise ValueError(
            "Views and the parameters that depend on them need architecture='mlp' and views of counts, got "
            f"{settings}. {remedy}, or leave these parameters at their defaults."
        )


def build_network(classifier, n_genes: int, n_classes: int, seed: int) -> keras.Model:
    """Build the network of a classifier; the seed determines its weights and the states of random layers."""
    check_views(classifier)
    if not callable(classifier.architecture):
        names = NETWORK_PARAMETERS[classifier.architecture]
        parameters = {name: getattr(classifier, name) for name in names}
        return BUILDERS[classifier.architecture](n_genes, n_classes, seed=seed, **parameters)
    with seeded(seed):
        model = classifier.architecture(n_genes, n_classes)
    check_classifier_model(model, n_classes=n_classes, n_genes=n_genes)
    if model.compiled:
        raise ValueError("architecture returned a compiled model. Return it without compiling: fit does that.")
    return model


def network_of_weights(saved: SavedNetwork) -> keras.Model:
    """Build the network of a model file."""
    norm = saved.norm
    network = BUILDERS[saved.architecture](saved.n_genes, saved.n_classes, seed=0, **saved.parameters)
    for variable, values in zip(learned_weights(network), saved.weights, strict=True):
        variable.assign(values)
    return network if norm is None else with_input_norm(network, norm)


def weights_that_describe(classifier, state: dict[str, Any]) -> list[NDArray] | None:
    """Return weights that give the same network again with the parameters, or None if there are none."""
    check_process()
    model = classifier.model_
    weights = [weight.numpy() for weight in learned_weights(model)]
    cells = np.abs(np.random.default_rng(0).normal(size=(16, classifier.n_features_in_))).astype(model.inputs[0].dtype)
    try:
        again = SavedNetwork.of_classifier(classifier, weights, state).model()
        same = layers_of(again) == layers_of(model) and np.array_equal(forward(again, cells), forward(model, cells))
    except ValueError:
        return None
    return weights if same else None


def take_weights(network: keras.Model, trained: keras.Model, outputs: NDArray | None = None) -> None:
    """Set the weights of a network to those of a trained one; raise if the layers differ.

    If the outputs differ, `outputs` is the output of the trained network for each output of the new one, or -1.
    Outputs of the new network that come from the same output share its probability.
    """
    ends: list[list[layers.Layer]] = [[], []] if outputs is None else [output_layers(m) for m in (network, trained)]
    others = [type(layer).__name__ for layer in ends[0] if not isinstance(layer, layers.Dense)]
    if others:
        raise ValueError(
            f"New types cannot be added to a network that ends in {others[0]}, because its weights cannot be assigned "
            "to single classes: end it with a Dense layer, or train a new classifier."
        )
    wanted, found = (layers_of(model, of_any_units=end) for model, end in zip((network, trained), ends, strict=True))
    targets, sources = learned_weights(network), learned_weights(trained)
    at_end = [{id(weight) for layer in end for weight in layer.weights} for end in ends]
    shapes = [
        [weight.shape[:-1] if id(weight) in of_outputs else weight.shape for weight in weights]
        for weights, of_outputs in zip((targets, sources), at_end, strict=True)
    ]
    if wanted != found or shapes[0] != shapes[1]:
        of_function = "" if outputs is None else " Only the output layer may depend on the number of classes."
        raise ValueError(
            f"Training cannot continue: the parameters describe a network with the layers {wanted}, but the fitted "
            f"network has {found}. Set the parameters that it was trained with.{of_function}"
        )
    values = [source.numpy() for source in sources]
    places = [place for place, target in enumerate(targets) if id(target) in at_end[0]]
    if outputs is not None:
        known = outputs >= 0
        n_shared = np.bincount(outputs[known], minlength=trained.output_shape[-1])[outputs[known]]
        for place in places:
            grown = targets[place].numpy()
            grown[..., known] = values[place][..., outputs[known]]
            values[place] = grown
        for place in [place for place in places if values[place].ndim == 1][:1]:  # once: logits may sum several biases
            values[place][known] -= np.log(n_shared)
    for target, value in zip(targets, values, strict=True):
        target.assign(value)
    settle(network)


def make_optimizer(optimizer: Any, learning_rate: float) -> keras.optimizers.Optimizer:
    """Make an optimizer from its name, its class or a function."""
    if isinstance(optimizer, str):
        try:
            optimizer = type(keras.optimizers.get(optimizer))
        except ValueError as error:
            raise ValueError(
                f"optimizer={optimizer!r} is unknown to Keras. Pass a name such as 'adam', 'sgd' or 'rmsprop', or a "
                "class from keras.optimizers."
            ) from error
    return optimizer(learning_rate=float(learning_rate))


def trainer_of(
    classifier, network: keras.Model, optimizer: keras.optimizers.Optimizer, objective: Objective
) -> Trainer:
    """Return a trainer for networks of this shape; if possible, it is kept for later fits."""
    # The configuration of a user's functions and classes may not describe all that they do.
    of_keras = type(optimizer).__module__.startswith("keras.")
    if callable(classifier.architecture) or not of_keras or type(objective) not in (Objective, TreeObjective):
        return Trainer(network, optimizer, objective)
    build, names = BUILDERS[classifier.architecture], NETWORK_PARAMETERS[classifier.architecture]
    shape = {name: getattr(classifier, name) for name in names if name not in L2_PARAMETERS}
    inputs, outputs = int(np.prod(network.input_shape[1:])), network.output_shape[-1]

    def make():
        return Trainer(build(inputs, outputs, seed=0, **shape), optimizer, objective, has_l2=True)

    return shared_trainer(repr((build, shape, inputs, outputs, optimizer_settings(optimizer), objective.key)), make)
