"""What is particular to a terminal, and to a pipe: tables, and stopping at once."""

from __future__ import annotations

import io
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import click
import orjson
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

#: How often a waiting command looks whether it shall end, in seconds.
CHECK_S: Final = 0.1
#: Wide enough that nothing is cut for a reader that is no terminal.
_PIPE_WIDTH: Final = 100_000


def in_background(
    function: Callable[[], T],
    *,
    timeout_s: float | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> T:
    """Run a function in a thread and wait for it, such that Ctrl-C ends the wait at once.

    Python handles signals between its own instructions only, and a client's call may take ten
    seconds. The thread is left behind then: it ends with the process.

    Args:
        function: What to run.
        timeout_s: Longest time to wait, None for ever.
        meanwhile: Called over and over; an error of it ends the wait, too.

    Raises:
        TimeoutError: It took longer than ``timeout_s``.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="sabot_ray-cli", daemon=True)
    thread.start()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while thread.is_alive():
        thread.join(CHECK_S)
        meanwhile()
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError
    if errors:
        raise errors[0]
    return results[0]


def check_pipe() -> None:
    """Find out whether standard output is still read, also while there is nothing to write.

    Raises:
        BrokenPipeError: It is a pipe whose reader has gone.
    """
    try:
        output = sys.stdout.fileno()
    except io.UnsupportedOperation:
        return
    watch = select.poll()
    # Asked for nothing, poll() still tells errors, and a pipe without a reader is one.
    watch.register(output, 0)
    if any(event & select.POLLERR for _, event in watch.poll(0)):
        raise BrokenPipeError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave to the command what it means; rich would exit with 1."""
        raise BrokenPipeError


def console() -> Console:
    """Return the console of standard output; for a pipe it has no colours and cuts nothing."""
    terminal = sys.stdout.isatty()
    return _Console(
        width=None if terminal else _PIPE_WIDTH, highlight=False, emoji=False, soft_wrap=False
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> Table:
    """Lay out a small table: with lines on a terminal, with white space only in a pipe.

    Args:
        columns: The headings; ``>`` at the end aligns the column to the right.
        rows: The cells: text, numbers (shown with separators on a terminal), or None, shown as "-".
        title: What stands above the table on a terminal.
    """
    terminal = sys.stdout.isatty()
    shown = Table(
        title=title if terminal else None,
        box=box.SIMPLE_HEAD if terminal else None,
        pad_edge=False,
        title_justify="left",
    )
    for name in columns:
        numeric = name.endswith(">")
        shown.add_column(name.rstrip(">"), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(value, terminal) for value in row))
    return shown


def _cell(value: Any, terminal: bool) -> RenderableType:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}" if terminal else str(value)
    return Text(str(value))


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(orjson.dumps(value))
