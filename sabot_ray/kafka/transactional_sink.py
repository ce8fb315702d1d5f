"""The native sink in transactions: records and the offsets they come from, all or none (KIP-98)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa

from sabot_ray.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    BrokerUnavailable,
    Fenced,
    KafkaError,
    SabotRayError,
)
from sabot_ray.kafka.librdkafka_sink import LibrdkafkaSink
from sabot_ray.kafka.sink import SLICE_S, Delivery, PartitionSink, SinkSpec
from sabot_ray.types import OffsetAndMetadata, TopicPartition, TransactionFailure

#: The brokers abort a transaction that is open for longer, in seconds: for so long it may hold up
#: who reads what is committed, should its writer be gone.
TRANSACTION_TIMEOUT_S: Final = 30.0
#: Longest time for a former transaction of the same id to end, in seconds.
_INIT_TIMEOUT_S: Final = 20.0
#: Longest time to abort, in seconds: whoever has the id next, or the brokers, would else.
_ABORT_TIMEOUT_S: Final = 5.0


class TransactionLost(SabotRayError):
    """A transaction was not committed, or nobody knows whether it was.

    What it held is to be done again, by a new sink of the same transactional id, from the offsets
    that are committed by then.

    Args:
        message: What happened.
        passes: Whether it is of a kind that passes by itself.
    """

    def __init__(self, message: str, *, passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


class TransactionalSink(LibrdkafkaSink):
    """Writes batches, and the offsets that a group has read by then, in transactions.

    Its spec has a ``transactional_id``. When it is made, it fences every other sink of this id, and
    ends what that one has left open. The first `send` after a `commit` begins a transaction. After
    any error but one of a row's, `abort` and `close` are all that it can do.
    """

    def _connect(self) -> None:
        # Whether a transaction is open.
        self._is_open = False
        super()._connect()
        try:
            self._init_transactions()
        except BaseException:
            self.close()
            raise

    def _settings(self) -> dict[str, str]:
        assert self._spec.transactional_id is not None
        settings = super()._settings()
        timeout_ms = round(TRANSACTION_TIMEOUT_S * 1000)
        # A record cannot be written after its transaction.
        delivery_ms = min(int(settings.pop("delivery.timeout.ms")), timeout_ms)
        return {
            **settings,
            "transactional.id": self._spec.transactional_id,
            "transaction.timeout.ms": str(timeout_ms),
            "message.timeout.ms": str(delivery_ms),
            # So long a new transaction waits for the last one to finish; 100 by default.
            "retry.backoff.ms": "5",
        }

    def _check_target(self) -> None:
        """Do nothing: the driver has checked it, and a reader has many of these."""

    def _init_transactions(self) -> None:
        """End what a former sink has left open."""
        deadline = time.monotonic() + _INIT_TIMEOUT_S
        while failure := self._producer.init_transactions(SLICE_S):
            self._tend()
            error: Exception = failure.error
            if isinstance(error, KafkaError):
                refusals = (e for e in self._producer.client_errors() if _is_refusal(e))
                error = next(refusals, error)
            if not failure.is_retriable or _is_refusal(error):
                raise error
            if self._is_closed or time.monotonic() >= deadline:
                raise BrokerUnavailable(
                    f"transactional id '{self._spec.transactional_id}': no answer within "
                    f"{_INIT_TIMEOUT_S:g} s; the client says: {error}",
                    retriable=True,
                )

    def send(self, batch: pa.RecordBatch) -> Delivery:
        """See `PartitionSink.send`.

        Raises:
            TransactionLost: The transaction, with all that was sent in it, is lost.
        """
        return self._send_by(self, batch)

    def beside(self, spec: SinkSpec) -> PartitionSink:
        """Return a sink of other records in the same transactions; it needs no `close`.

        Args:
            spec: What it writes; the brokers, and how they are reached, are those of this one.
        """
        return _SinkBeside(self, spec)

    def _send_by(self, sink: LibrdkafkaSink, batch: pa.RecordBatch) -> Delivery:
        with self._using():
            delivery = sink._encoded(batch)
            self._begin()
            try:
                sink._send(delivery)
            except KafkaError as error:
                raise self._lost("writing", error) from error
            return delivery

    def commit(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_metadata: bytes
    ) -> None:
        """Make what was sent visible, and the offsets the group's, at once.

        Args:
            offsets: The next offsets to read.
            group_metadata: Of the group's member in whose name they are committed.

        Raises:
            AuthorizationFailed: An ACL is missing.
            TransactionLost: Nothing of it is visible; or, if the brokers did not answer, nobody
                knows whether all of it is.
        """
        with self._using():
            self._begin()
            self._step(
                "sending the offsets",
                lambda timeout_s: self._producer.send_offsets(offsets, group_metadata, timeout_s),
            )
            self._step(
                "committing", lambda timeout_s: self._producer.end_transaction(True, timeout_s)
            )
            self._is_open = False

    def abort(self) -> None:
        """Give up what was sent since the last `commit`, as far as that can be done here."""
        with self._using():
            self._abort()

    def _abort(self) -> None:
        was_open, self._is_open = self._is_open, False
        deadline = time.monotonic() + _ABORT_TIMEOUT_S
        # What this cannot abort ends with the next sink of this id, or by the brokers' timeout.
        while was_open and time.monotonic() < deadline:
            failure = self._producer.end_transaction(False, SLICE_S)
            if failure is None or not failure.is_retriable:
                return

    def _begin(self) -> None:
        self._check_open()
        if not self._is_open:
            failure: TransactionFailure | None = self._producer.begin_transaction()
            if failure is not None:
                raise self._lost("beginning", failure.error)
            self._is_open = True

    def _step(self, what: str, step: Callable[[float], TransactionFailure | None]) -> None:
        """Go on with a step until it is done, or its time is over."""
        deadline = time.monotonic() + TRANSACTION_TIMEOUT_S
        while failure := step(SLICE_S):
            self._tend()
            self._check_open()
            if not failure.is_retriable or time.monotonic() >= deadline:
                raise self._lost(what, failure.error)

    def _lost(self, what: str, error: Exception) -> Exception:
        if isinstance(error, AuthorizationFailed):
            return error
        passes = isinstance(error, Fenced) or (isinstance(error, KafkaError) and error.retriable)
        return TransactionLost(
            f"transactional id '{self._spec.transactional_id}': {what}: {error}", passes=passes
        )

    def _disconnect(self) -> None:
        self._abort()
        super()._disconnect()


class _SinkBeside(LibrdkafkaSink):
    """See `TransactionalSink.beside`."""

    def __init__(self, owner: TransactionalSink, spec: SinkSpec) -> None:
        self._owner = owner
        self._attach(spec)

    def _check_target(self) -> None:
        """Do nothing, as the owner."""

    def _connect(self) -> None:
        self._producer, self._connection = self._owner._producer, self._owner._connection
        self._watch = self._owner._watch

    def send(self, batch: pa.RecordBatch) -> Delivery:
        """See `TransactionalSink.send`."""
        return self._owner._send_by(self, batch)

    def _check_open(self) -> None:
        self._owner._check_open()

    def _disconnect(self) -> None:
        """Do nothing: the client is the owner's."""


def _is_refusal(error: Any) -> bool:
    return isinstance(error, AuthenticationFailed | AuthorizationFailed)
