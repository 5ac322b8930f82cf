"""The progress bar of a training."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class TrainingBar:
    """One line with the epoch, the loss, the cells a second and the time that is left, on stderr.

    Parameters
    ----------
    n_epochs, n_cells : int
        The epochs, and the cells of each.

    n_done : int, default=0
        The cells that were seen before, in all epochs.

    shown : bool
        Whether anything is shown.
    """

    def __init__(self, n_epochs: int, n_cells: int, n_done: int = 0, *, shown: bool):
        self._n_epochs = n_epochs
        columns = TextColumn("{task.description}"), BarColumn(), _Speed(), TimeRemainingColumn(compact=True)
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not shown)
        self._task = self._progress.add_task("train", total=n_epochs * n_cells, completed=n_done)
        self._loss = ""

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(self, *error) -> None:
        self._progress.stop()

    def advance(self, epoch: int, n_cells: int) -> None:
        """Tell that so many cells of an epoch, counted from 0, are done."""
        description = f"epoch {epoch + 1}/{self._n_epochs}{self._loss}"
        self._progress.update(self._task, advance=n_cells, description=description)

    def end_epoch(self, logs: Mapping[str, float]) -> None:
        """Show the losses and accuracies of an epoch from now on."""
        self._loss = "".join(f" {name} {logs[name]:.3f}" for name in ("loss", "val_loss") if name in logs)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} cells/s")
