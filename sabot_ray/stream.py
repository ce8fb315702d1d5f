"""`Stream`: what to read from Kafka and what to do with it, run on Ray actors."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.codecs.codec import Codec, UnknownFields
from sabot_ray.errors import ConfigError
from sabot_ray.expressions import checked, trace
from sabot_ray.kafka.backend import choose_backend, report_backend
from sabot_ray.kafka.config import KafkaConfig, check_setting_names
from sabot_ray.kafka.interceptor import Interceptor, checked_interceptors, consuming
from sabot_ray.kafka.metadata import End, OnDataLoss, Start
from sabot_ray.kafka.options import (
    INFER,
    check_choice,
    check_number,
    check_seconds,
    check_source_options,
    checked_codec,
    checked_key_codec,
    checked_partitions,
    checked_start,
    checked_text,
    checked_topics,
)
from sabot_ray.kafka.outgoing import Column, Partitioner
from sabot_ray.kafka.sink import checked_sink_spec
from sabot_ray.kafka.source import Backend
from sabot_ray.kafka.transactional_sink import TRANSACTION_TIMEOUT_S
from sabot_ray.runtime.branch import BatchRef
from sabot_ray.runtime.operators import (
    FilterExpression,
    FilterFunction,
    FlatMap,
    Intercept,
    Map,
    Operator,
    Select,
    WithColumns,
)
from sabot_ray.runtime.output import OutputStream
from sabot_ray.runtime.plan import PlannedBranch, SourceOptions, stream_schema
from sabot_ray.runtime.policy import PolicyName, checked_policy
from sabot_ray.runtime.reader import reader_options
from sabot_ray.runtime.reader_messages import SinkPlan
from sabot_ray.runtime.run import StreamRun, start_run
from sabot_ray.schema import (
    KEY_COLUMN,
    METADATA_FIELDS,
    check_columns,
    empty_batch,
    unknown_column,
)

#: Options of the full design that are not built yet.
_NOT_YET = frozenset(
    (
        "codec_options",
        "offset_store",
    )
)

_MIB = 1 << 20
#: Longest ``interval_s`` under exactly-once: the rest is for the batch that is at work at its end.
_LONGEST_TRANSACTION_S = TRANSACTION_TIMEOUT_S / 3


class Stream:
    """An immutable plan: Kafka topics, and operators on its record batches.

    Lazy: nothing connects until it is run. Operators give a new stream, so a plan may be branched,
    and each run starts from the plan anew.
    """

    def __init__(self, *branches: PlannedBranch) -> None:
        if not branches or not all(isinstance(branch, PlannedBranch) for branch in branches):
            raise ConfigError("Stream: use Stream.from_kafka(bootstrap_servers, topic, ...)")
        # Several of a union.
        self._branches = branches

    @classmethod
    def from_kafka(
        cls,
        bootstrap_servers: str | Sequence[str] | KafkaConfig,
        topic: str | Sequence[str],
        group_id: str | None = None,
        codec_type: str | Codec = "json",
        *,
        use_cpp: bool = True,
        backend: Literal["native", "aiokafka", "auto"] | None = None,
        schema: pa.Schema | Mapping[str, pa.DataType | str] | Literal["infer"] | None = None,
        start: Start | None = None,
        end: End = None,
        partitions: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
        partition_id: int = -1,
        batch_size: int = 50_000,
        max_batch_bytes: int = 16 * _MIB,
        linger_s: float = 0.0,
        metadata: bool | Sequence[str] = False,
        key_codec: str | Codec | None = None,
        tombstones: Literal["keep", "skip"] = "keep",
        unknown_fields: UnknownFields = "ignore",
        error_handling_policy: PolicyName = "fail",
        dead_letter_topic: str | None = None,
        max_retry_attempts: int = 3,
        retry_backoff_seconds: float = 1.0,
        on_data_loss: OnDataLoss = "fail",
        readers: int | None = None,
        decode_threads: int = 1,
        memory_per_reader: int = 128 * _MIB,
        metadata_refresh_s: float = 30.0,
        sample_records: int = 1000,
        stream_id: str | None = None,
        max_in_flight_bytes: int | None = None,
        interceptors: Sequence[Interceptor] = (),
        ray_remote_args: Mapping[str, Any] | None = None,
        **kafka_settings: Any,
    ) -> Stream:
        """Read a topic as typed record batches.

        Args:
            bootstrap_servers: ``"host:port"``, several with commas between, a list, or a
                `KafkaConfig`.
            topic: The topic, a list of topics, or a regular expression that begins with ``^`` and
                is searched for in the names.
            group_id: Consumer group that keeps the progress. Without one nothing is committed.
            codec_type: How values are encoded: ``"json"`` (`docs/json.md` is the mapping),
                ``"string"`` or ``"bytes"`` (one column, ``value``), or a `JsonCodec`, which brings
                its own schema.
            use_cpp: Whether to use the native backend where it loads; else aiokafka runs, with the
                same results.
            backend: The same choice by name; a named backend is never replaced.
            schema: The value columns of JSON: a schema, or name -> type. Default: the one that the
                group has kept with its progress; where there is none, it is inferred once, when the
                stream starts, from a sample of every partition, and then fixed. ``"infer"`` infers
                it whatever is kept, also that of the keys. A declared schema that is not the kept
                one is an error.
            start: ``"committed"`` (default with a group; where nothing is committed,
                ``auto_offset_reset``), ``"earliest"`` (default without), ``"latest"``, an offset, a
                `datetime` (naive is UTC: the first record that is not older), or ``{topic:
                {partition: ...}}`` of these; partitions that a mapping lacks begin as by default.
            end: None reads on for ever; ``"latest"`` is the last stable offset at the start; or an
                offset, a `datetime` or a mapping, as for ``start``; it is not read itself.
            partitions: The partitions to read, of one topic, or by topic. Default: all, also those
                that are added while a continuous stream runs.
            partition_id: The same for a single one; -1 is all.
            batch_size: Most rows in a batch. A batch is handed over as soon as no more is at hand,
                so batches are small while the topic is slow; far behind the log's end, a reader
                waits up to 50 ms for the records that are on their way. One of several partitions
                that are all far behind waits up to half a second while more of them come.
            max_batch_bytes: Most bytes of keys and values in a batch.
            linger_s: Seconds to wait for more records before a batch that is not full is handed
                over.
            metadata: Whether to add the ``_kafka_...`` columns, or the names of those to add.
            key_codec: How the column ``_kafka_key`` is made: None or ``"bytes"`` takes keys as they
                are, ``"string"`` as text; ``"json"`` gives a struct of their fields, inferred like
                the values', and a `JsonCodec` declares them.
            tombstones: ``"keep"`` gives a null value as a row of nulls, ``"skip"`` drops it.
            unknown_fields: What to do with a field that the schema lacks: ``"ignore"`` (one warning
                for each name), ``"rescue"`` (kept as JSON text in the column ``_rescued``),
                ``"evolve"`` (appended as a nullable column: from the first batch with it on, all
                batches of the run have it; `docs/json.md` has the rules) or ``"fail"``.
            error_handling_policy: What to do with a record that does not decode, on which an
                operator raises, or which cannot be written (`docs/errors.md` has the whole):
                ``"fail"`` raises the error after the rows before it, ``"skip"`` passes over it,
                counts and logs it, ``"dead_letter"`` also writes it to the dead-letter topic before
                its offset may be committed; ``"retry"`` tries again what may pass, and then does
                the same where there is a dead-letter topic, or fails.
            dead_letter_topic: A topic of the same brokers that takes such records, as they were
                read, with Kafka Connect's headers that say why.
            max_retry_attempts: How often ``"retry"`` tries again.
            retry_backoff_seconds: Seconds before the first of these attempts, doubled for each
                further one, give or take some.
            on_data_loss: What to do where records that were to be read are gone, or a topic was
                deleted and created anew: ``"fail"`` raises `DataLoss` or `TopicRecreated`,
                ``"warn"`` logs the same and goes on where the log allows it; `docs/data_loss.md`
                tells where that is.
            readers: Most Ray actors that read. Default: one for each partition, but no more than
                twice the cluster's CPUs; beyond that a reader has several partitions. The streams
                of a union share that number.
            decode_threads: Threads of each reader that decode JSON, order kept; worth it where a
                partition brings more than one core can decode and the reader's node has idle ones.
                Ray is not asked for these: ``ray_remote_args={"num_cpus": ...}`` does that.
                aiokafka ignores it.
            memory_per_reader: Bytes that each reader declares to Ray; half of it is prefetch.
            metadata_refresh_s: Seconds between two looks for new partitions, which are read from
                their beginning.
            sample_records: Records to infer the schema from, over all partitions.
            stream_id: Identity of the stream in the group; one driver at a time runs it. Default:
                the group id.
            max_in_flight_bytes: Limit of the batches that are asked for, under way, or delivered
                and not acknowledged. Default: a quarter of Ray's object store, which the streams of
                a union share.
            interceptors: Their `Interceptor.on_consume` is called with each batch before the
                operators, in the readers, their `Interceptor.on_commit` after each commit.
            ray_remote_args: Ray's options of the reader actors, for example ``{"resources":
                {...}}``.
            kafka_settings: Settings of a Kafka consumer, as ``fetch_min_bytes`` or
                ``fetch.min.bytes``; also ``auto_offset_reset``, ``enable_auto_commit`` and
                ``auto_commit_interval_ms``.

        Raises:
            ConfigError: An option is wrong.
            BackendUnavailable: The named backend cannot be loaded.
        """
        for name in kafka_settings.keys() & _NOT_YET:
            raise ConfigError(f"option '{name}' is not available yet")
        options = inspect.signature(cls.from_kafka).parameters.keys() - {"kafka_settings"}
        check_setting_names(kafka_settings, "consumer", options)
        config = KafkaConfig.of(bootstrap_servers, **kafka_settings)
        chosen = choose_backend(use_cpp=use_cpp, backend=backend)
        group_id = checked_text("group_id", group_id)
        topics = checked_topics(topic)
        check_number("partition_id", partition_id, -1)
        if partition_id >= 0:
            if partitions is not None:
                raise ConfigError("partition_id and partitions say the same; give one of them")
            partitions = (partition_id,)
        start = checked_start(start, group_id)
        check_source_options(
            end=end,
            tombstones=tombstones,
            unknown_fields=unknown_fields,
            max_batch_bytes=max_batch_bytes,
            linger_s=linger_s,
            decode_threads=decode_threads,
        )
        policy = checked_policy(
            error_handling_policy, dead_letter_topic, max_retry_attempts, retry_backoff_seconds
        )
        check_choice("on_data_loss", on_data_loss, ("fail", "warn"))
        columns = _metadata_columns(metadata)
        if key_codec is not None and KEY_COLUMN not in columns:
            raise ConfigError(
                f"key_codec decodes the column '{KEY_COLUMN}', which is not asked for; pass "
                f"metadata=['{KEY_COLUMN}'], too"
            )
        if stream_id is not None and group_id is None:
            raise ConfigError("stream_id names a stream within a group: pass group_id, too")
        if not isinstance(ray_remote_args, Mapping | None):
            raise ConfigError(
                "ray_remote_args: expected a mapping of Ray's options, "
                f"found {type(ray_remote_args).__name__}"
            )
        check_number("batch_size", batch_size, 1)
        if readers is not None:
            check_number("readers", readers, 1)
        check_seconds("metadata_refresh_s", metadata_refresh_s, 0.1, 86_400)
        check_number("memory_per_reader", memory_per_reader, 16 * _MIB)
        check_number("sample_records", sample_records, 1)
        if max_in_flight_bytes is not None:
            check_number("max_in_flight_bytes", max_in_flight_bytes, _MIB)
        interceptors = checked_interceptors(interceptors)
        # The others are no reason to build columns that nobody wants.
        seeing = consuming(interceptors)
        config.check_travels()
        report_backend(chosen, config, decode_threads)
        return cls(
            PlannedBranch(
                SourceOptions(
                    config=config,
                    topics=topics,
                    partitions=checked_partitions(partitions, topics),
                    group_id=group_id,
                    stream_id=checked_text("stream_id", stream_id),
                    backend=chosen,
                    codec=checked_codec(codec_type, schema, unknown_fields),
                    key_codec=checked_key_codec(key_codec),
                    infers_anew=schema == INFER,
                    start=start,
                    end=end,
                    batch_size=min(batch_size, config.get("max.poll.records", batch_size)),
                    max_batch_bytes=max_batch_bytes,
                    linger_s=float(linger_s),
                    metadata=columns,
                    tombstones=tombstones,
                    unknown_fields=unknown_fields,
                    policy=policy,
                    on_data_loss=on_data_loss,
                    readers=readers,
                    decode_threads=decode_threads,
                    memory_per_reader=memory_per_reader,
                    metadata_refresh_s=float(metadata_refresh_s),
                    sample_records=sample_records,
                    max_in_flight_bytes=max_in_flight_bytes,
                    interceptors=interceptors,
                    actor_options=reader_options(
                        {"memory": memory_per_reader, **(ray_remote_args or {})}
                    ),
                ),
                (Intercept(seeing),) if seeing else (),
            )
        )

    def __repr__(self) -> str:
        if len(self._branches) == 1:
            return str(self._branches[0])
        return f"Stream.union({', '.join(map(str, self._branches))})"

    @property
    def backend(self) -> str:
        """The backend that runs this stream, ``"native"`` or ``"aiokafka"``.

        Both, with a comma between, of a union that has both.
        """
        return ", ".join(dict.fromkeys(branch.options.backend for branch in self._branches))

    def schema(self) -> pa.Schema | None:
        """Return the schema of the batches; it connects where it is not declared, or may be kept.

        Returns:
            The schema; None behind a `map`, whose result is only known when it runs.
        """
        return stream_schema(self._branches)

    # Operators

    def filter(self, predicate: Callable[[Any], Any] | pc.Expression) -> Stream:
        """Keep the rows for which a predicate is true; null counts as false.

        A predicate over ``b["name"]`` with comparisons, arithmetic, ``&``, ``|``, ``~``,
        ``.isin()`` and `pyarrow.compute` functions becomes an Arrow expression, here and now:
        values that it captures are frozen. Any other is called with each `pyarrow.RecordBatch` and
        must return a boolean array.

        Args:
            predicate: For example ``lambda b: b["amount"] > 1000.0``, or an expression:
                ``pc.field("amount") > 1000.0``.

        Raises:
            ConfigError: The predicate uses ``and``, ``or``, ``not`` or ``in`` on a column, or
                compares one with None.
        """
        if isinstance(predicate, pc.Expression):
            return self._with(FilterExpression(checked(predicate)))
        _check_function("filter", predicate)
        expression = trace(predicate)
        if expression is None:
            return self._with(FilterFunction(predicate))
        return self._with(FilterExpression(expression))

    def map(self, function: Callable[[pa.RecordBatch], pa.RecordBatch]) -> Stream:
        """Replace each batch by what a function makes of it, in the reader actors.

        After a failure the function may run again for the same records.

        Args:
            function: Gets a `pyarrow.RecordBatch` with at least one row and returns one, with the
                same schema every time.
        """
        _check_function("map", function)
        return self._with(Map(function))

    def flat_map(self, function: Callable[[pa.RecordBatch], Iterable[pa.RecordBatch]]) -> Stream:
        """Replace each batch by the batches that a function makes of it, in the reader actors.

        Their rows arrive as one batch, or as none. After a failure the function may run again for
        the same records.

        Args:
            function: Gets a `pyarrow.RecordBatch` with at least one row and returns any number of
                them, for example by ``yield``, with the same schema every time.
        """
        _check_function("flat_map", function)
        return self._with(FlatMap(function))

    def with_columns(self, **expressions: Callable[[Any], Any] | pc.Expression) -> Stream:
        """Add columns that are computed of others; one of a name that is there takes its place.

        Args:
            expressions: Name -> expression, or a function of a batch that becomes one, here and
                now, as in `filter`: ``with_columns(net=lambda b: b["amount"] - b["fee"])``. All of
                them see the columns as they were before.

        Raises:
            ConfigError: A function is none of what an expression can say; `map` takes those.
        """
        traced = {}
        for name, given in expressions.items():
            if isinstance(given, pc.Expression):
                traced[name] = checked(given, "with_columns")
                continue
            _check_function(f"with_columns: {name}", given)
            expression = trace(given, "with_columns")
            if expression is None:
                raise ConfigError(
                    f"with_columns: what gives '{name}' cannot be said as an expression over the "
                    'columns, like b["x"] * 2 or pyarrow.compute functions of them; use map'
                )
            traced[name] = expression
        if not traced:
            raise ConfigError("with_columns: name at least one column")
        return self._with(WithColumns(traced))

    def select(self, *names: str | Sequence[str]) -> Stream:
        """Keep the named columns, in this order; others are not even built by the decoder.

        Every document is validated all the same.

        Args:
            names: ``select("id", "amount")``, or one list of them.
        """
        listed: Any = names[0] if len(names) == 1 and isinstance(names[0], list | tuple) else names
        # Whether the columns exist is known once there is a schema.
        known = pa.schema([(str(name), pa.null()) for name in listed])
        return self._with(Select(check_columns(listed, known, "select")))

    def union(self, *streams: Stream) -> Stream:
        """Read other streams beside this one, as one stream: as `ray.data.Dataset.union` does.

        Their batches come as they are read, the streams in turn where several have some; the order
        is kept within a partition. Each stream keeps its own progress, and commits it to its own
        group. An operator behind the union applies to the batches of all.

        A batch does not say where it comes from: add ``metadata=["_kafka_topic"]``, or a column
        with `with_columns`, where that matters.

        Args:
            streams: Other topics, clusters or groups, with operators of their own. The batches of
                all must have the same schema, which is checked when the stream starts; behind a
                `map`, with its first batch.

        Raises:
            ConfigError: Two of them commit to the same group of the same servers, or one has
                ``unknown_fields="evolve"``. (Two names of one cluster are not seen here: there the
                one stream takes the other's group over, and the run ends with `Fenced`.)
        """
        for stream in streams:
            if not isinstance(stream, Stream):
                raise ConfigError(f"union: expected streams, found {type(stream).__name__}")
        if not streams:
            raise ConfigError("union: name at least one other stream")
        branches = [branch for stream in (self, *streams) for branch in stream._branches]
        owners: dict[tuple[str, str], int] = {}
        for number, (options, _) in enumerate(branches):
            if options.evolves:
                raise ConfigError(
                    f"union: '{options.source_name}' has unknown_fields='evolve', and its batches "
                    "would not be like those of the others; declare their schema, or keep unknown "
                    "fields with 'rescue'"
                )
            if options.group_id is None:
                continue
            for server in options.config.bootstrap_servers.split(","):
                owner = owners.setdefault((server, options.group_id), number)
                if owner != number:
                    raise ConfigError(
                        f"union: '{branches[owner].options.source_name}' and "
                        f"'{options.source_name}' both commit to group '{options.group_id}', which "
                        "has one owner; give each a group_id of its own, or read their topics as "
                        "one stream: from_kafka(..., [topic, ...])"
                    )
        return Stream(*branches)

    def _with(self, operator: Operator) -> Stream:
        return Stream(
            *(branch._replace(operators=(*branch.operators, operator)) for branch in self._branches)
        )

    # Running

    def start(self) -> StreamRun:
        """Connect, plan, start the readers, and return the run; with a group it becomes its owner.

        Raises:
            ConfigError: The operators do not fit the schema, or there is nothing to infer one from.
            KafkaError: The brokers cannot be reached, or refuse.
            DataLoss: The start is not in the log any more.
        """
        return start_run(self._branches, owns_group=True)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Run the stream and yield its batches; see `StreamRun`."""
        with self.start() as run:
            yield from run

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        """Run the stream and yield its batches; see `StreamRun.__aiter__`."""
        run = await asyncio.to_thread(self.start)
        try:
            async for batch in run:
                yield batch
        finally:
            await asyncio.to_thread(run.close)

    def refs(self) -> Iterator[BatchRef]:
        """Run the stream and yield references to its batches; see `StreamRun.refs`.

        Call `BatchRef.ack` once the batch is processed. The end of the iteration closes the run,
        and then it is too late for that: the batch would come again. Where processing goes on after
        the last reference, use ``with stream.start() as run`` and ``run.refs()``.
        """
        with self.start() as run:
            yield from run.refs()

    def foreach(self, function: Callable[[pa.RecordBatch], object]) -> None:
        """Call a function in the driver with each batch, which is acknowledged when it returns."""
        _check_function("foreach", function)
        for batch in self:
            function(batch)

    def to_kafka(
        self,
        bootstrap_servers: str | Sequence[str] | KafkaConfig,
        topic: Column,
        codec_type: str | Codec = "json",
        codec_options: None = None,
        compression_type: str = "lz4",
        key_extractor: Callable[[dict[str, Any]], bytes | None] | None = None,
        use_cpp: bool = True,
        *,
        key: Column | None = None,
        headers: Column | None = None,
        timestamp: Column | None = None,
        partition: Column | None = None,
        partitioner: str | Partitioner = "murmur2_random",
        columns: Sequence[str] | None = None,
        delivery: Literal["at_least_once", "exactly_once"] = "at_least_once",
        interval_s: float = 1.0,
        interceptors: Sequence[Interceptor] = (),
        wait: bool = True,
        **kafka_settings: Any,
    ) -> OutputStream:
        """Run the stream, and write its batches to a topic; `docs/writing.md` has the whole.

        The readers write: records do not pass the driver. At least once, the driver commits the
        offsets of what is written to the stream's group: after a failure, records whose offsets
        were not committed yet are written again. Exactly once, each reader commits records and
        offsets in one transaction: whoever reads with ``isolation.level=read_committed`` sees each
        record once. It ends at Kafka: the operators' functions may run twice for a record.

        Args:
            bootstrap_servers: Where to write: ``"host:port"``, several, or a `KafkaConfig`.
            topic: The topic, or an expression that gives each row's, ``pc.field("to")``.
            codec_type: How values are encoded: ``"json"``, ``"string"``, ``"bytes"``, or a `Codec`.
            codec_options: Not available yet.
            compression_type: ``"none"``, ``"gzip"``, ``"snappy"``, ``"lz4"`` or ``"zstd"``.
            key_extractor: A function that gives the key of a row as a dict: slow, in place of
                ``key``.
            use_cpp: Whether to write with the native backend where it loads; else with aiokafka.
            key: Column or expression of strings or bytes; None: records have no keys.
            headers: Column or expression of maps, or of lists as in ``_kafka_headers``.
            timestamp: Column or expression of timestamps, or of integers in milliseconds.
            partition: Column or expression of partition numbers.
            partitioner: One of librdkafka's, by default Java's, or a function of a batch and the
                number of partitions.
            columns: The columns to encode; None: all but the stream's metadata columns.
            delivery: ``"at_least_once"``, or ``"exactly_once"``, which needs the native backend, a
                ``group_id``, and the target on the source's cluster.
            interval_s: How often offsets are committed, in seconds (in place of the stream's
                ``auto_commit_interval_ms``); exactly once, as long readers wait for records, and
                10 at most.
            interceptors: Their `Interceptor.on_produce` is called before a batch is encoded, their
                `Interceptor.on_acknowledgement` once it is known what became of its records; both
                in the readers.
            wait: Whether to return only when the source has ended; else it runs in the background.
            kafka_settings: Settings of a Kafka producer, by name.

        Returns:
            The output, ended or running.

        Raises:
            ConfigError: An option cannot work, or the operators do not fit the schema.
            KafkaError: The brokers cannot be reached, or refuse.
            SinkError: A record was not written; what was written before is committed.
            EncodeError: A row cannot be encoded.
        """
        if codec_options is not None:
            raise ConfigError("codec_options: not available yet")
        check_choice("delivery", delivery, ("at_least_once", "exactly_once"))
        check_seconds("interval_s", interval_s, 0.001, 3600)
        options = inspect.signature(self.to_kafka).parameters.keys() - {"kafka_settings"}
        check_setting_names(kafka_settings, "producer", options)
        config = KafkaConfig.of(bootstrap_servers, **kafka_settings)
        config.check_travels()
        backend = choose_backend(use_cpp=use_cpp)
        report_backend(backend, config)
        spec = checked_sink_spec(
            config,
            topic,
            codec_type,
            compression_type,
            "fail",
            key_extractor=key_extractor,
            key=key,
            headers=headers,
            timestamp=timestamp,
            partition=partition,
            partitioner=partitioner,
            columns=columns,
            interceptors=interceptors,
        )
        for branch in self._branches:
            if branch.options.config.get("enable.auto.commit", True) is False:
                raise ConfigError(
                    "to_kafka: enable_auto_commit=False leaves commits to StreamRun.commit(), "
                    "which a stream that writes does not have; leave it out, or the group_id"
                )
        if delivery == "exactly_once":
            self._check_exactly_once(backend, interval_s, config)
        sink = SinkPlan(backend, spec, delivery == "exactly_once", interval_s)
        output = OutputStream(self._branches, sink, interval_s)
        if wait:
            output.run()
        else:
            output.start()
        return output

    def _check_exactly_once(self, backend: Backend, interval_s: float, config: KafkaConfig) -> None:
        what = "delivery='exactly_once'"
        if interval_s > _LONGEST_TRANSACTION_S:
            raise ConfigError(
                f"interval_s: {what} takes at most {_LONGEST_TRANSACTION_S:g} s: a transaction "
                "holds up who reads what is committed"
            )
        owners: set[str] = set()
        for branch in self._branches:
            options = branch.options
            if "aiokafka" in (backend, options.backend):
                raise ConfigError(
                    f"{what} needs the native backend on both sides, and this is aiokafka; write "
                    "with delivery='at_least_once'"
                )
            if options.on_data_loss != "fail":
                raise ConfigError(
                    f"{what} begins at what is committed, also where that is not in the log any "
                    f"more; leave out on_data_loss='{options.on_data_loss}'"
                )
            if options.group_id is None:
                raise ConfigError(
                    f"{what} commits offsets with the records: pass a group_id to from_kafka"
                )
            has_limit = "max.request.size" in config.settings
            if has_limit and options.policy.dead_letter_topic is not None:
                raise ConfigError(
                    f"max_request_size: with {what} a record that is too large and its dead letter "
                    "go through the same client; leave it to the topics' max.message.bytes"
                )
            stream_id = options.stream_id or options.group_id
            if stream_id in owners:
                raise ConfigError(
                    f"{what}: two streams of the union have the stream_id '{stream_id}', but it "
                    "names their transactions; pass a stream_id of its own to each"
                )
            owners.add(stream_id)

    # Looking: these never commit and never join the group.

    def take(self, n: int = 20) -> list[dict[str, Any]]:
        """Return the first ``n`` rows as dictionaries; on a continuous stream it waits for them."""
        return self.take_batch(n).to_pylist()

    def take_batch(self, n: int = 20) -> pa.RecordBatch:
        """Return the first ``n`` rows as one batch; on a continuous stream it waits for them.

        Returns:
            A batch of at most ``n`` rows, fewer where a bounded stream has no more.
        """
        check_number("n", n, 1)
        batches: list[pa.RecordBatch] = []
        missing = n
        with self._look() as run:
            for batch in run:
                batches.append(batch.slice(0, missing))
                missing -= batches[-1].num_rows
                if missing == 0:
                    break
            if not batches:
                return _no_rows(run)
            return _table(batches, run).combine_chunks().to_batches()[0]

    def collect(self) -> pa.Table:
        """Return all rows of a bounded stream as a table."""
        self._check_bounded("collect")
        return self._all_rows()

    def _all_rows(self) -> pa.Table:
        with self._look() as run:
            return _table(list(run), run)

    def count(self) -> int:
        """Return the number of rows of a bounded stream; no batch leaves the readers."""
        self._check_bounded("count")
        with self._look(counts_only=True) as run:
            for _ in run:
                pass
            return run.status().rows

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return all rows of a bounded stream as dictionaries."""
        self._check_bounded("to_pylist")
        return self._all_rows().to_pylist()

    def _look(self, *, counts_only: bool = False) -> StreamRun:
        branches = [
            branch._replace(
                options=replace(branch.options, policy=branch.options.policy.only_looking())
            )
            for branch in self._branches
        ]
        return start_run(branches, owns_group=False, counts_only=counts_only)

    def _check_bounded(self, method: str) -> None:
        if any(branch.options.end is None for branch in self._branches):
            raise ConfigError(
                f"{method}: the stream is continuous and would never return; pass end='latest' to "
                "from_kafka"
            )


def _check_function(method: str, function: object) -> None:
    if not callable(function):
        raise ConfigError(
            f"{method}: expected a function of a batch, found {type(function).__name__}"
        )


def _table(batches: list[pa.RecordBatch], run: StreamRun) -> pa.Table:
    """Return the batches as one table; where the schema was extended, earlier rows have nulls."""
    last = _no_rows(run)
    if all(batch.schema == last.schema for batch in batches):
        return pa.Table.from_batches(batches or [last])
    # The columns are in the order of the first table.
    tables = [pa.Table.from_batches([batch]) for batch in (last, *batches)]
    return pa.concat_tables(tables, promote_options="default")


def _no_rows(run: StreamRun) -> pa.RecordBatch:
    # A map that never saw a row gives columns that nobody knows.
    return empty_batch(run.schema or pa.schema([]))


def _metadata_columns(metadata: bool | Sequence[str]) -> tuple[str, ...]:
    if isinstance(metadata, bool):
        return tuple(METADATA_FIELDS) if metadata else ()
    if isinstance(metadata, str) or not isinstance(metadata, Sequence):
        raise ConfigError(f"metadata: expected True, False or a list of names, found {metadata!r}")
    for name in metadata:
        if name not in METADATA_FIELDS:
            raise unknown_column(name, METADATA_FIELDS, "metadata")
    return tuple(name for name in METADATA_FIELDS if name in metadata)
