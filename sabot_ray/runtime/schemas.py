"""Which schema a run has: declared, kept with the group's progress, or inferred from a sample."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from sabot_ray.codecs.codec import Codec, UnknownFields
from sabot_ray.codecs.inference import infer_schema
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.metadata import ClusterClient
from sabot_ray.kafka.sampling import sample_records
from sabot_ray.offsets.envelope import MAX_METADATA_BYTES, pack
from sabot_ray.offsets.kept_schema import KeptSchema
from sabot_ray.schema import RESCUED_COLUMN, differences, metadata_fields
from sabot_ray.types import TopicPartition, Watermarks, by_topic

if TYPE_CHECKING:
    from sabot_ray.runtime.plan import SourceOptions

logger = logging.getLogger("sabot_ray.runtime")


class Codecs(NamedTuple):
    """How a stream's records are decoded: their schemas are known.

    Attributes:
        values: Of values.
        keys: Of keys.
        kept: What is to be kept of their schemas with the progress.
    """

    values: Codec
    keys: Codec
    kept: KeptSchema

    def source_schema(self, metadata_columns: Iterable[str]) -> pa.Schema:
        """Return the columns that a stream begins with: the value's, then metadata columns."""
        metadata = metadata_fields(self.keys.key_type)
        return pa.schema([*self.values.columns, *(metadata[name] for name in metadata_columns)])


def declared_codecs(options: SourceOptions) -> Codecs | None:
    """Return the codecs, if none of their schemas has to be kept or inferred."""
    if options.codec is None or options.key_codec is None:
        return None
    return Codecs(options.codec, options.key_codec, _to_keep(options.codec, options.key_codec))


def resolve_codecs(
    options: SourceOptions,
    client: ClusterClient,
    partitions: Iterable[TopicPartition],
    kept: KeptSchema | None,
) -> Codecs:
    """Return the codecs: with schemas that are declared, else kept, else inferred now.

    Args:
        options: The source.
        client: Who reads the sample.
        partitions: What it is taken of.
        kept: What the group has kept.

    Raises:
        ConfigError: A declared schema is not the kept one, or there is nothing to infer one from.
        KafkaError: The brokers cannot be reached, or refuse.
    """
    values, keys = options.codec, options.key_codec
    if kept is not None and not options.infers_anew:
        values = _kept_codec(
            options, "schema", values, kept.values, kept.evolved, options.unknown_fields
        )
        keys = _kept_codec(options, "key_codec", keys, kept.keys)
    if values is None or keys is None:
        values, keys = _inferred(options, values, keys, client, partitions)
    return Codecs(values, keys, _to_keep(values, keys, kept))


def _kept_codec(
    options: SourceOptions,
    option: str,
    declared: Codec | None,
    kept: pa.Schema | None,
    evolved: int = 0,
    unknown_fields: UnknownFields = "ignore",
) -> Codec | None:
    """Return the codec with the kept schema, if one is kept of values, or of keys."""
    if kept is None or not isinstance(declared, JsonCodec | None):
        return declared
    if declared is None:
        return JsonCodec(kept, unknown_fields)
    own = len(declared.schema)
    if own not in range(len(kept) - evolved, len(kept)):
        own = len(kept)
    found = differences(declared.schema, pa.schema(list(kept)[:own]), ("declared", "kept"))
    if found:
        group = options.group_id
        raise ConfigError(
            f"{option}: group '{group}' has kept another schema with its progress:\n  "
            + "\n  ".join(found)
            + "\ndeclare the kept schema, or leave it out; schema='infer' infers a new one. For "
            "another one, pass a new group_id, or let the group forget its schema but not its "
            f"offsets: kafka-consumer-groups --group {group} --topic "
            f"{options.topics[0]} --reset-offsets --to-current --execute"
        )
    return replace(declared, schema=pa.schema([*declared.schema, *list(kept)[own:]]))


def _to_keep(values: Codec, keys: Codec, before: KeptSchema | None = None) -> KeptSchema:
    # Of other codecs the columns are always the same.
    of_values, of_keys = (
        codec.schema if isinstance(codec, JsonCodec) else None for codec in (values, keys)
    )
    kept = KeptSchema(of_values, of_keys)
    if before is None:
        return kept
    return before if before.has_fields_of(kept) else replace(kept, version=before.version + 1)


def watermarks_of(
    client: ClusterClient, partitions: Iterable[TopicPartition]
) -> dict[str, dict[int, Watermarks]]:
    """Return the bounds of the logs, by topic."""
    return {
        topic: client.watermarks(topic, numbers) for topic, numbers in by_topic(partitions).items()
    }


def _inferred(
    options: SourceOptions,
    values: Codec | None,
    keys: Codec | None,
    client: ClusterClient,
    partitions: Iterable[TopicPartition],
) -> tuple[Codec, Codec]:
    """Return the codecs; a sample of the topics gives the schemas that are missing."""
    sampled = sample_records(
        client,
        options.source_name,
        watermarks_of(client, partitions),
        options.sample_records,
        remedy="schema" if values is None else "key_codec",
    )
    # Beside the column of unknown fields there is none of the same name.
    without = {RESCUED_COLUMN} if options.unknown_fields == "rescue" else ()
    of_values = (record.value for record in sampled)
    return (
        values or JsonCodec(infer_schema(of_values, without=without), options.unknown_fields),
        keys or JsonCodec(infer_schema((record.key for record in sampled), "key_codec")),
    )


def commit_metadata(options: SourceOptions, kept: KeptSchema, **others: Any) -> str:
    """Return what is committed beside each offset.

    Args:
        options: The source.
        kept: The schema; with a warning, it is left out where it does not fit.
        others: What else is kept.
    """
    has_fields = kept.values is not None or kept.keys is not None
    text = pack({"schema": kept.to_entry(), **others}) if has_fields else None
    if text is not None:
        return text
    # Who declares it has the same one after a restart in any case.
    if kept.evolved or (has_fields and None in (options.codec, options.key_codec)):
        columns = len(kept.values or ()) + len(kept.keys or ())
        logger.warning(
            "group '%s': the schema of %d columns does not fit into the %d bytes that are kept "
            "with the progress: after a restart it is inferred anew, and may be another one; "
            "declare it with schema=",
            options.group_id,
            columns,
            MAX_METADATA_BYTES,
        )
    return (pack(others) or "") if others else ""
