"""The processes that the fault tests kill and freeze: Ray's readers and nodes, and drivers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.faults.ledger import Ledger, Run
from tests.servers import wait_until

DRIVER = Path(__file__).with_name("driver.py")


def readers(ancestor: int | None = None, kind: str = "Reader") -> list[psutil.Process]:
    """Return the reader processes below a process, by default below this one."""
    found = []
    for process in psutil.Process(ancestor).children(recursive=True):
        try:
            # Ray writes what an actor's process does into its command line.
            if any(f"ray::{kind}" in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    """Return whether the process runs; one that nobody has waited for yet does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Driver:
    """A driver in a process of its own: `driver.py`, which notes what it does in a file.

    Args:
        directory: Where its files go.
        address: The Ray cluster.
        name: Tells it from the test's other drivers.
        options: What `driver.py` reads.
    """

    def __init__(self, directory: Path, address: str, name: str, **options: Any) -> None:
        self._notes = directory / f"{name}.notes"
        self._output = directory / f"{name}.txt"
        arguments = json.dumps({"address": address, "notes": str(self._notes), **options})
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(DRIVER), arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for pytest, which then stops it.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What it has noted so far."""
        if not self._notes.exists():
            return []
        lines = self._notes.read_bytes().split(b"\n")
        # The last one may be cut short by a kill.
        return [json.loads(line) for line in lines[:-1]]

    @property
    def batches(self) -> list[dict[str, Any]]:
        """The batches whose processing it has noted."""
        return [note for note in self.notes if note["what"] == "batch"]

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def noted(self, what: str) -> list[dict[str, Any]]:
        """Return its notes of one kind."""
        return [note for note in self.notes if note["what"] == what]

    def await_note(self, what: str, count: int = 1, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until it has made this many notes of a kind, and return the last."""

        def found() -> list[dict[str, Any]]:
            # In this order: what it noted before it ended counts.
            ended = self.exit_code is not None
            notes = self.noted(what)
            if len(notes) >= count:
                return notes
            if ended:
                raise RuntimeError(f"ended after {self.notes[-1:]} without {what}:\n{self.output}")
            return []

        return wait_until(found, timeout_s)[-1]

    def add_to(self, ledger: Ledger) -> None:
        """Note the records that it has processed."""
        for note in self.batches:
            ledger.note_run(Run(note["partition"], note["start"], note["stop"]))

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def go_on(self) -> None:
        """Let it pass where it waits for the test."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait until it ends, and return how."""
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """Kill it; it need not run."""
        if self.exit_code is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    @property
    def output(self) -> str:
        """What it and its Ray printed last."""
        return self._output.read_text(errors="replace")[-12000:]


class Drivers:
    """Starts drivers; leaving the context kills those that still run."""

    def __init__(self, directory: Path, address: str, **options: Any) -> None:
        self._directory = directory
        self._address = address
        self._options = options
        self._started: list[Driver] = []

    @property
    def topic(self) -> str:
        """What they read."""
        topic: str = self._options["topic"]
        return topic

    def start(self, **options: Any) -> Driver:
        """Start one more driver."""
        name = f"driver-{len(self._started)}"
        driver = Driver(self._directory, self._address, name, **{**self._options, **options})
        self._started.append(driver)
        return driver

    def __enter__(self) -> Drivers:
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self._started:
            driver.kill()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process's clock while the context is entered."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def at(due: float) -> bool:
    """Return whether this moment of the monotonic clock has come."""
    return time.monotonic() >= due
