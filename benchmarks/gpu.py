"""Train and predict on a GPU and on the CPU: cells per second, and the memory of the GPU.

    python benchmarks/gpu.py

Each line runs in its own process. The first fit makes the graph and is not counted. Networks of views predict on the
CPU, from sparse counts, wherever they are trained; the others predict where they are trained. Memory is the maximum
that TensorFlow used on the GPU. Without a GPU, a message says so; `--processor` then measures the CPU alone.
"""

import json
import os
import subprocess
import sys
import time

import click

from sklearn_cells.datasets import make_cells

NETWORKS = {
    "views, (128,)": {"views": "depth_free", "gene_noise": 0.7, "hidden_layer_sizes": (128,)},
    "(2048, 512)": {"hidden_layer_sizes": (2048, 512)},
    "CNN of 2019": {
        "architecture": "cnn",
        "filters": (16, 32, 64, 128),
        "kernel_size": (10, 10, 2, 5),
        "padding": ("same", "same", "valid", "same"),
        "pool_size": (4, 4, 4, 3),
        "hidden_layer_sizes": (512,),
    },
}
DTYPES = ("float32", "mixed_bfloat16")


@click.command(help=__doc__.splitlines()[0])
@click.option("--cells", "n_cells", default=20_000, show_default=True)
@click.option("--genes", "n_genes", default=2_000, show_default=True)
@click.option("--epochs", default=5, show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--processor", is_flag=True, help="Measure the processor where there is no card.")
@click.option("--one", hidden=True, help="The network and dtype of a line, as JSON.")
def main(n_cells, n_genes, epochs, batch_size, processor, one):
    if one is not None:
        print(json.dumps(measure(*json.loads(one), n_cells, n_genes, epochs, batch_size)))
        return
    cards = json.loads(run("import tensorflow as tf; print([d.name for d in tf.config.list_physical_devices('GPU')])"))
    if not cards and not processor:
        print("TensorFlow finds no graphics card here, so that there is nothing to compare with the processor.")
        return
    names = ", ".join(cards) or "none"
    print(f"{n_cells:,} x {n_genes:,} cells, batches of {batch_size}, {epochs} epochs; cards: {names}")
    print(f"{'network':15} {'dtype':15} {'device':10} {'trained/s':>10} {'predicted/s':>12} {'growth':>7} {'MB':>7}")
    arguments = [f"--cells={n_cells}", f"--genes={n_genes}", f"--epochs={epochs}", f"--batch-size={batch_size}"]
    for network in NETWORKS:
        for dtype in DTYPES:
            for hidden in ({}, {"CUDA_VISIBLE_DEVICES": "-1"}) if cards else ({},):
                found = json.loads(run(__file__, *arguments, "--one", json.dumps([network, dtype]), **hidden))
                print(
                    f"{network:15} {dtype:15} {found['device']:10} {found['trained']:10,.0f} "
                    f"{found['predicted']:12,.0f} {found['growth']!s:>7} {found['megabytes']:7,.0f}",
                    flush=True,
                )


def run(code, *arguments, **environment):
    """Return the last line that Python code or a script prints."""
    command = [code, *arguments] if arguments else ["-c", code]
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(done.stderr[-2000:])
    return done.stdout.strip().splitlines()[-1].replace("'", '"')


def measure(network, dtype, n_cells, n_genes, epochs, batch_size):
    """Return cells a second in training and prediction, and what the card had in use."""
    from sklearn_cells import KerasCellClassifier
    from sklearn_cells.neural_network._quiet_tensorflow import tf

    cells = make_cells(n_cells, n_genes, n_classes=10, mean_count=0.2, random_state=0)
    X, y = cells.X, cells.obs["cell_type"]
    options = {"batch_size": batch_size, "dtype": dtype, "random_state": 0}
    seconds = {}
    for n_epochs in (1, 1 + epochs):  # the difference is that of the epochs alone, and the first makes the graph
        for _ in range(2 if n_epochs == 1 else 1):
            classifier = KerasCellClassifier(**NETWORKS[network], **options, epochs=n_epochs)
            start = time.perf_counter()
            classifier.fit(X, y)
            seconds[n_epochs] = time.perf_counter() - start
    classifier.predict_proba(X[:256])
    start = time.perf_counter()
    classifier.predict_proba(X)
    cards = tf.config.list_physical_devices("GPU")
    return {
        "device": cards[0].name.rpartition("physical_device:")[2] if cards else "processor",
        "trained": n_cells * epochs / (seconds[1 + epochs] - seconds[1]),
        "predicted": n_cells / (time.perf_counter() - start),
        "growth": bool(cards) and bool(tf.config.experimental.get_memory_growth(cards[0])),
        "megabytes": tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20 if cards else 0,
    }


if __name__ == "__main__":
    main()
