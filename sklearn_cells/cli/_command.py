"""A command that prints errors and warnings as sentences."""

import linecache
import traceback
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from sklearn_cells.cli._wording import in_shell

_PACKAGE = Path(__file__).parents[1]
# anndata says so whenever names repeat; --duplicates handles them.
_NOT_SHOWN = "names are not unique"


class Command(click.Command):
    """A command that prints its examples as they are written, and its errors as one sentence."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        help_text = "On an error, also print the Python traceback."
        self.params.append(click.Option(["--traceback"], is_flag=True, expose_value=False, help=help_text))

    def parse_args(self, ctx, args):
        ctx.meta["traceback"] = "--traceback" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if error.message.startswith("Got unexpected extra argument"):
                hint = "To pass several files, put a pattern in quotes, such as 'atlas/*.h5ad'."
                raise click.UsageError(f"{error.message}. {hint}", ctx) from None
            raise

    def invoke(self, ctx):
        options = {parameter.name: max(parameter.opts, key=len) for parameter in self.params}
        given = [name for name, value in ctx.params.items() if value is True]
        words = partial(in_shell, options=options, given=given)
        try:
            with _shown_warnings(words):
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.meta["traceback"]:
                traceback.print_exception(error)
            raise click.ClickException(words(_sentence(error, ctx.meta.get("stage", "working")))) from error

    def format_epilog(self, ctx, formatter):
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


def stage(doing):
    """Note what a command is doing, for the message of an unexpected error."""
    click.get_current_context().meta["stage"] = doing


def _sentence(error, doing):
    text = " ".join(str(error).split())
    if _is_deliberate(error):
        return text
    if isinstance(error, OSError) and error.strerror:
        file = f": {error.filename}" if error.filename else ""
        return f"{error.strerror} while {doing}{file}."
    if isinstance(error, MemoryError):
        known = f": {text}" if text else ""
        return f"Not enough memory while {doing}{known}. Use fewer cells, or a machine with more memory."
    return (
        f"Unexpected error while {doing}: {type(error).__name__}: {text[:500].rstrip('.')}. Run the command again with "
        "--traceback for details."
    )


def _is_deliberate(error):
    """Return whether this package raised the error on purpose, instead of a library or by mistake."""
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    file = place.tb_frame.f_code.co_filename
    line = linecache.getline(file, place.tb_lineno)
    return Path(file).is_relative_to(_PACKAGE) and line.lstrip().startswith("raise ") and bool(str(error))


@contextmanager
def _shown_warnings(words):
    """Print each warning once, in one form, reworded by `words`."""
    shown = set()

    def show(message, category, filename, lineno, file=None, line=None):
        text = words(" ".join(str(message).split()))
        of_libraries = issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning)
        if text not in shown and not of_libraries and _NOT_SHOWN not in text:
            shown.add(text)
            click.echo(f"Warning: {text}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
