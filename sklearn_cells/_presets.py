"""Parameters of the networks of make_cell_pipeline: the recommended one and those of 2019."""

from typing import Any

# Trained on simulated laboratories, with a second network for cells of the same experiment.
ANY_LABORATORY: dict[str, Any] = {
    "views": "depth_free",
    "gene_noise": 0.7,
    "program_noise": 1.0,
    "missing_genes": 0.5,
    "linear_path": True,
    "home_network": True,
    "novelty": True,
    "class_weight": "sqrt",
}

# How both networks of 2019 were trained.
TRAINING_2019: dict[str, Any] = {
    "class_weight": None,
    "input_norm": None,
    "learning_rate": 0.001,
    "learning_rate_schedule": "constant",
    "batch_size": 60,
    "epochs": 10,
}
MLP_2019: dict[str, Any] = {
    "architecture": "mlp",
    "hidden_layer_sizes": (2048, 512),
    "dropout": (0, 0.8),
    "kernel_l2": (0.01, 0.01, 0),
    "bias_l2": (0.01, 0.01, 0),
    **TRAINING_2019,
}
CNN_2019: dict[str, Any] = {
    "architecture": "cnn",
    "filters": (16, 32, 64, 128),
    "kernel_size": (10, 10, 2, 5),
    "padding": ("same", "same", "valid", "same"),
    "pool_size": (4, 4, 4, 3),
    "hidden_layer_sizes": (512,),
    "dropout": 0.5,
    "kernel_l2": (0.01, 0),
    "bias_l2": (0.01, 0),
    **TRAINING_2019,
}
