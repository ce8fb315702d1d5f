"""Running ``sabot-ray``: inside the process, as a process, and on a terminal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator

import orjson
from click.testing import CliRunner, Result

from sabot_ray.cli import main
from tests.servers import wait_until


def run(*arguments: str, servers: str | None = None, data: bytes | None = None) -> Result:
    """Run a command in this process; its standard output is a pipe to it."""
    environment = {"SABOT_RAY_BOOTSTRAP_SERVERS": servers, "SABOT_RAY_CONFIG": None}
    return CliRunner().invoke(main, list(arguments), input=data, env=environment)


def json_lines(result: Result) -> list[dict[str, object]]:
    """Return the objects that a command has printed, after it succeeded."""
    assert (result.exit_code, result.stderr) == (0, "")
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def failure(result: Result, exit_code: int = 1) -> str:
    """Return the one line by which a command failed."""
    assert (result.exit_code, result.stdout) == (exit_code, "")
    *usage, line = result.stderr.splitlines()
    assert usage == [] or exit_code == 2
    return line.removeprefix("Error: ")


def start(*arguments: str, servers: str, **options: object) -> subprocess.Popen[bytes]:
    """Start a command as a process with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "sabot_ray", *arguments],
        env={**os.environ, "SABOT_RAY_BOOTSTRAP_SERVERS": servers},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **{"stdin": subprocess.DEVNULL, **options},  # type: ignore[call-overload]
    )


class Terminal:
    """A command on a terminal of its own, 80 columns wide."""

    def __init__(self, *arguments: str, servers: str) -> None:
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._controller = controller
        self._read = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sabot_ray", *arguments],
            env={**os.environ, "SABOT_RAY_BOOTSTRAP_SERVERS": servers, "TERM": "xterm"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(terminal)
        self._reader = threading.Thread(target=self._collect)
        self._reader.start()

    def _collect(self) -> None:
        try:
            while data := os.read(self._controller, 65536):
                self._read += data
        except OSError as error:
            # So a terminal tells that nobody has it open any more.
            if error.errno != errno.EIO:
                raise

    @property
    def text(self) -> str:
        """What was shown until now, with the terminal's codes."""
        return self._read.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.text, 30)

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        os.write(self._controller, b"\x03")

    def wait(self, timeout_s: float = 10) -> int:
        """Return the exit code."""
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._reader.join(10)
        os.close(self._controller)


@contextlib.contextmanager
def terminal(*arguments: str, servers: str) -> Iterator[Terminal]:
    """Run a command on a terminal; it is killed if it still runs at the end."""
    running = Terminal(*arguments, servers=servers)
    try:
        yield running
    finally:
        running.close()
