"""`OutputStream`: a stream whose readers write to Kafka, as one thing to start, watch and stop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from sabot_ray.errors import SabotRayError
from sabot_ray.runtime.plan import PlannedBranch
from sabot_ray.runtime.reader_messages import SinkPlan
from sabot_ray.runtime.run import StreamRun, start_run
from sabot_ray.runtime.status import RunStatus


class OutputStream:
    """A stream that is written to Kafka; made by `Stream.to_kafka`.

    The readers read, apply the operators and write; records never pass the driver. At least once,
    it commits the offsets of what is written: after a failure, records that were written and whose
    offsets were not committed are written again. Exactly once, the readers commit them together.

    Also a context manager, which stops it.
    """

    def __init__(
        self, branches: Sequence[PlannedBranch], sink: SinkPlan, interval_s: float
    ) -> None:
        self._branches = [_with_interval(branch, interval_s) for branch in branches]
        self._sink = sink
        self._run: StreamRun | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        state = self._run.status().state if self._run is not None else "NOT STARTED"
        source = ".union".join(str(branch) for branch in self._branches)
        return f"OutputStream({source} -> {self._sink.spec.layout.topic!r}, {state})"

    def start(self) -> OutputStream:
        """Start in the background; nothing happens while it runs.

        Raises:
            ConfigError: The operators do not fit the schema, or the sink's columns do not exist.
            KafkaError: The brokers cannot be reached, or refuse.
        """
        if self._thread is None or not self._thread.is_alive():
            self._error = None
            self._run = self._start_run()
            self._thread = threading.Thread(
                target=self._write, args=[self._run], name="sabot_ray-output", daemon=True
            )
            self._thread.start()
        return self

    def run(self) -> None:
        """Write until the source ends, or Ctrl-C comes.

        Raises:
            SabotRayError: It cannot go on; what was written is committed.
            KeyboardInterrupt: Ctrl-C came; what was under way is written and committed.
        """
        if self._thread is not None and self._thread.is_alive():
            raise SabotRayError("the output runs already, in the background: wait() for it")
        self._run = self._start_run()
        with self._run as run:
            _exhaust(run)

    def status(self) -> RunStatus:
        """Return how far it is; ``rows`` are those that are written."""
        if self._run is None:
            raise SabotRayError("the output has not been started; call start()")
        return self._run.status()

    def stop(self) -> None:
        """Read no more, write what is under way, commit, and end. Idempotent.

        Raises:
            SabotRayError: What ended it before.
        """
        if self._run is not None:
            self._run.stop()
        self.wait()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the source has ended, or `stop`; tell whether that came in time.

        Raises:
            SabotRayError: It could not go on; what was written is committed.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_run(self) -> StreamRun:
        return start_run(self._branches, owns_group=True, sink=self._sink)

    def _write(self, run: StreamRun) -> None:
        try:
            with run:
                _exhaust(run)
        except BaseException as error:  # noqa: BLE001 - `wait` raises it
            self._error = error


def _exhaust(run: StreamRun) -> None:
    for _ in run:
        raise AssertionError("a reader that writes returned a batch")


def _with_interval(branch: PlannedBranch, interval_s: float) -> PlannedBranch:
    config = branch.options.config.with_settings(
        enable_auto_commit=True, auto_commit_interval_ms=max(1, round(interval_s * 1000))
    )
    return branch._replace(options=replace(branch.options, config=config))
