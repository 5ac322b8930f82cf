"""The progress bar of a training."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class TrainingBar:
    """A progress bar on stderr with the epoch, the loss, the cells per second and the remaining time.

    Parameters
    ----------
    n_epochs, n_cells : int
        The number of epochs, and the number of cells in each.

    n_done : int, default=0
        The number of cells that were trained on before, over all epochs.

    shown : bool
        Whether to show the bar.
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
        """Advance the bar by a number of cells of an epoch, which is counted from 0."""
        description = f"epoch {epoch + 1}/{self._n_epochs}{self._loss}"
        self._progress.update(self._task, advance=n_cells, description=description)

    def end_epoch(self, logs: Mapping[str, float]) -> None:
        """Show the losses of an epoch from now on."""
        self._loss = "".join(f" {name} {logs[name]:.3f}" for name in ("loss", "val_loss") if name in logs)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} cells/s")
