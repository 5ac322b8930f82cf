"""python -m sklearn_cells.cli is the command sklearn-cells."""

import sys

from sklearn_cells.cli import main

sys.exit(main(prog_name="sklearn-cells"))
