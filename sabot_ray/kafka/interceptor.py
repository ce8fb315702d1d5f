"""Interceptors: a user's hooks where batches are read, written, acknowledged and committed."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa

from sabot_ray.errors import ConfigError
from sabot_ray.types import FailedRecord, TopicPartition, WrittenRecords

logger = logging.getLogger("sabot_ray.interceptors")

#: How often the errors of one method are logged, in seconds.
_LOG_INTERVAL_S: Final = 30.0


class Interceptor:
    """Sees, and may change, what passes between a stream and Kafka; a base to derive from.

    As Kafka's ``ConsumerInterceptor`` and ``ProducerInterceptor``, by the batch. Given to
    `Stream.from_kafka`, its `on_consume` and `on_commit` are called; given to `Stream.to_kafka` or
    to a sink, its `on_produce` and `on_acknowledgement`. Several are called in the order in which
    they are given, each with what the one before returned.

    Readers get pickled copies, each its own; an instance that is given to both ``from_kafka`` and
    ``to_kafka`` is one in the reader, too. `on_commit` is called on the driver's instance.

    An exception of `on_consume` or `on_produce` ends the stream, as that of a `Stream.map` does: to
    go on without what they would have done would change the data silently. What the other two are
    told has happened: their exceptions are logged, and change nothing.
    """

    def on_consume(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return what the stream's operators shall see of a batch that was read.

        Called in the reader, with all columns of the stream. After a failure it may be called again
        for the same records.

        Args:
            batch: At least one row.

        Returns:
            The batch, or another one with the same schema and as many rows.
        """
        return batch

    def on_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Be told of offsets that were committed.

        Called in the driver, in the thread that committed them, which waits.

        Args:
            offsets: The next offset to read of each partition, where it has changed.
        """

    def on_produce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return what shall be written of a batch; it is encoded next.

        Called in the reader, or by a sink's `send_batch`. After a failure it may be called again
        for the same records.

        Args:
            batch: At least one row.

        Returns:
            The batch, or another one with the same schema and as many rows.
        """
        return batch

    def on_acknowledgement(
        self, written: Sequence[WrittenRecords], failed: Sequence[FailedRecord]
    ) -> None:
        """Be told what became of a batch's records, once that is known of all.

        Called once for each batch of which the client was given records: in the reader, and there
        before their offsets may be committed; or by a sink's next call. In no order. What is under
        way when a sink is closed has failed; a process that is killed tells nothing.

        Args:
            written: Where records were written, and how many.
            failed: The records that were not, as far as the client can tell.
        """


class Interceptors:
    """Calls interceptors in their order, checks what they return, and logs what is no error.

    Args:
        interceptors: Theirs.
    """

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._interceptors = interceptors
        self._logged_at: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._interceptors)

    def on_consume(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return what all of them leave of a batch.

        Raises:
            ConfigError: One returned something else than such a batch.
            Exception: What one of them raised.
        """
        for one in self._interceptors:
            batch = _checked("on_consume", one, batch, one.on_consume(batch))
        return batch

    def on_produce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Do the same before a batch is written."""
        for one in self._interceptors:
            batch = _checked("on_produce", one, batch, one.on_produce(batch))
        return batch

    def on_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell all of them."""
        for one in self._interceptors:
            with self._logged(one, "on_commit"):
                one.on_commit(dict(offsets))

    def on_acknowledgement(
        self, written: Sequence[WrittenRecords], failed: Sequence[FailedRecord]
    ) -> None:
        """Tell all of them."""
        for one in self._interceptors:
            with self._logged(one, "on_acknowledgement"):
                one.on_acknowledgement(written, failed)

    @contextlib.contextmanager
    def _logged(self, one: Interceptor, method: str) -> Iterator[None]:
        """Log what is raised in a ``with`` block, with restraint."""
        try:
            yield
        except Exception:
            name, now = f"{type(one).__qualname__}.{method}", time.monotonic()
            if now - self._logged_at.get(name, float("-inf")) >= _LOG_INTERVAL_S:
                self._logged_at[name] = now
                logger.exception(
                    "%s raised an error; what it was told has happened all the same (logged every "
                    "%g s at most)",
                    name,
                    _LOG_INTERVAL_S,
                )


def _checked(method: str, one: Interceptor, batch: pa.RecordBatch, given: object) -> pa.RecordBatch:
    where = f"{type(one).__qualname__}.{method}"
    if not isinstance(given, pa.RecordBatch):
        raise ConfigError(
            f"{where} returned a {type(given).__name__}; return the batch, or another "
            "pyarrow.RecordBatch with the same columns and as many rows"
        )
    if given.schema != batch.schema:
        raise ConfigError(
            f"{where} returned a batch with the columns\n{given.schema}\ninstead of\n"
            f"{batch.schema}\nan interceptor keeps them; map, with_columns and select change them"
        )
    if given.num_rows != batch.num_rows:
        raise ConfigError(
            f"{where} returned {given.num_rows} rows for {batch.num_rows}; an interceptor keeps "
            "their number; filter and flat_map change it"
        )
    if given.schema.equals(batch.schema, check_metadata=True):
        return given
    # Columns that were put in lack the metadata, which says how they are encoded.
    return pa.RecordBatch.from_arrays(given.columns, schema=batch.schema)


def checked_interceptors(interceptors: Iterable[Interceptor]) -> tuple[Interceptor, ...]:
    """Return the interceptors, if they are some.

    Raises:
        ConfigError: They are not.
    """
    if isinstance(interceptors, Interceptor) or not isinstance(interceptors, Iterable):
        raise ConfigError(
            f"interceptors: expected a list of them, found {type(interceptors).__name__}"
        )
    found = tuple(interceptors)
    for one in found:
        if not isinstance(one, Interceptor):
            name = f"the class {one.__qualname__}" if isinstance(one, type) else type(one).__name__
            raise ConfigError(
                f"interceptors: expected instances of sabot_ray.Interceptor, found {name}"
            )
    return found


def consuming(interceptors: Sequence[Interceptor]) -> tuple[Interceptor, ...]:
    """Return those that look at what is read."""
    return tuple(one for one in interceptors if type(one).on_consume is not Interceptor.on_consume)
