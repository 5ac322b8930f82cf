"""Run the command sklearn-cells as python -m sklearn_cells.cli."""

import sys

from sklearn_cells.cli import main

sys.exit(main(prog_name="sklearn-cells"))
