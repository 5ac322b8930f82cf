"""Run read_cells and each command on awkward files, and print what happens as a table for docs/files.md.

python benchmarks/files.py FOLDER
"""

import argparse
import re
import tempfile
import warnings
from itertools import groupby
from pathlib import Path

from click.testing import CliRunner

from sklearn_cells import read_cells
from sklearn_cells.cli import main as command

# The column with types, and the options that a first message asks for.
LABELS = {"adata_v0.5.0.h5ad": "bulk_labels", "cellxgene_nan.h5ad": "louvain", "mpfc-starmap.loom": "Clusters"}
LABELS |= {"zellkonverter_example_anndata.h5ad": "louvain", "10x_pbmc68k_reduced.zarr.zip": "bulk_labels"}
OPTIONS = {
    "10x_pbmc68k_reduced.zarr.zip": ["--layer=counts"],
    "adata_v0.5.0.h5ad": ["--layer=raw"],
    "sc_mixology_dropseq.count.csv.gz": ["--transpose"],
    "v2_multiple_genomes.h5": ["--genome=hg19_chr21"],
    "zellkonverter_example_anndata.h5ad": ["--layer=counts"],
}


def main():
    """Print a table of all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print("| file | call | what happens |\n|---|---|---|")
    for path in sorted(parser.parse_args().folder.iterdir()):
        if path.name == "README.md":
            continue
        found = [("read_cells", _read(path)), *_commands(path, [])]
        found += _commands(path, OPTIONS[path.name]) if path.name in OPTIONS else []
        name = path.name
        for said, group in groupby(found, key=lambda pair: pair[1]):
            names = ", ".join(f"`{command}`" for command, _ in group)
            print(f"| {name} | {names} | {said} |", flush=True)
            name = ""


def _read(path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            cells = read_cells(path)
        except Exception as error:
            return _short(f"refused. {error}", path)
    kinds = [type(cells.X).__name__, *cells.layers, *(["raw"] if cells.raw is not None else [])]
    said = [str(warning.message) for warning in told if warning.category is UserWarning]
    found = f"{cells.n_obs:,} cells x {cells.n_vars:,} genes ({', '.join(map(str, kinds))})."
    return _short(" ".join([found, *said]), path)


def _commands(path, options):
    labels = f"--labels={LABELS.get(path.name, 'cell_type')}"
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/own.cellmodel"
        arguments = {
            "predict": ["-o", f"{folder}/named.h5ad"],
            "genes": [labels],
            "train": [labels, "--genes=50", "--folds=2", "-o", model],
            "predict -m OWN": ["-m", model, "-o", f"{folder}/own.h5ad"],
            "evaluate -m OWN": [labels, "-m", model],
            "report -m OWN": [labels, "-m", model, "-o", f"{folder}/report.html", "--no-peers"],
        }
        for name, given in arguments.items():
            if "OWN" in name and not Path(model).exists():
                continue
            before = {file.name for file in Path(folder).iterdir()}
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                verb = name.partition(" ")[0]
                result = CliRunner().invoke(command, [verb, str(path), *given, *options])
            written = sorted({file.name for file in Path(folder).iterdir()} - before)
            said = [line.removeprefix("Error: ") for line in result.stderr.splitlines() if line]
            writes = f", writes {' and '.join(written)}" if written else ""
            done = f"done{writes}." if result.exit_code == 0 else "refused."
            yield " ".join([name, *options]), _short(" ".join([done, *said]), path, folder)


def _short(text, path, folder=""):
    text = text.replace(f"{path}: ", "").replace(str(path), path.name).replace(f"{folder}/", "")
    text = re.sub(r" The most informative missing genes.*| Expect most errors .*", "", text)
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) < 330 else text[:325] + " ..."


if __name__ == "__main__":
    main()
