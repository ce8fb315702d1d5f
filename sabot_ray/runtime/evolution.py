"""Finds the columns that ``unknown_fields="evolve"`` appends to a running stream's schema."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from sabot_ray.codecs.codec import NewField
from sabot_ray.codecs.inference import infer_new_fields
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import ConfigError, KafkaError, SabotRayError
from sabot_ray.runtime.plan import SourceOptions, connected
from sabot_ray.runtime.schemas import Codecs

logger = logging.getLogger("sabot_ray.runtime")

#: Most columns that are appended to a schema: beyond this, names are data.
MAX_EVOLVED_COLUMNS = 1000
#: Time between two tries while the brokers do not answer, in seconds.
_TRY_AGAIN_S = 1.0


class SchemaEvolution:
    """Samples a topic where a field was met that the schema does not know.

    In a thread of its own, so that the run goes on meanwhile, and an outage does not end it.

    Args:
        options: The source.
    """

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        # Set once by the thread.
        self._found: list[pa.Field[Any]] | Exception | None = None
        self._met: NewField | None = None
        # Where the last evolution has found nothing.
        self._in_vain: tuple[str, int, int] | None = None

    def evolve(self, codecs: Codecs, met: NewField) -> Codecs | None:
        """Begin to look for what the schema is to learn, or return what became of that.

        Args:
            codecs: Whose schema is to be extended.
            met: Where it is to be, while nothing was begun.

        Returns:
            The codecs with the further columns; None while they are looked for.

        Raises:
            ConfigError: There would be too many columns.
            KafkaError: The brokers refuse; outages are waited for.
        """
        if self._thread is None:
            self._met, self._found = met, None
            self._thread = threading.Thread(
                target=self._look, args=(codecs,), name="sabot_ray-evolution", daemon=True
            )
            self._thread.start()
        if self._thread.is_alive():
            return None
        self._thread = None
        found = self._found
        assert self._met is not None
        if found is None:
            # It was closed.
            return None
        if isinstance(found, Exception):
            raise found
        return self._extended(codecs, found, self._met)

    def close(self) -> None:
        """Stop looking. Idempotent."""
        self._closing.set()

    def _look(self, codecs: Codecs) -> None:
        assert isinstance(codecs.values, JsonCodec)
        while not self._closing.is_set():
            try:
                self._found = self._sample(codecs.values.schema)
                return
            except Exception as error:  # noqa: BLE001 - the run must hear of it
                if not (isinstance(error, KafkaError) and error.retriable):
                    self._found = error
                    return
                logger.debug("looking for new fields: %s", error)
                self._closing.wait(_TRY_AGAIN_S)

    def _sample(self, schema: pa.Schema) -> list[pa.Field[Any]]:
        met = self._met
        assert met is not None
        with connected(self._options.config) as client:
            marks = client.watermarks(met.topic, [met.partition])[met.partition]
            wanted = (max(met.offset, marks.low), marks.last_stable)
            sampled = client.sample(
                met.topic, {met.partition: [wanted]}, self._options.sample_records
            )
        return infer_new_fields((record.value for record in sampled), schema)

    def _extended(self, codecs: Codecs, fields: Sequence[pa.Field[Any]], met: NewField) -> Codecs:
        assert isinstance(codecs.values, JsonCodec)
        where = f"topic '{met.topic}' partition {met.partition} offset {met.offset}"
        place = (met.topic, met.partition, met.offset)
        if not fields:
            # The record may be gone meanwhile: then reading on gets past it.
            if self._in_vain == place:
                raise SabotRayError(
                    f"{where}: field {met.field} is not in the schema, and no sample shows it; "
                    "please report this"
                )
            self._in_vain = place
            return codecs
        evolved = codecs.kept.evolved + len(fields)
        if evolved > MAX_EVOLVED_COLUMNS:
            raise ConfigError(
                f"{where}: unknown_fields='evolve' would append {evolved} columns, more than "
                f"{MAX_EVOLVED_COLUMNS}; where names are data, declare the schema without them and "
                "pass unknown_fields='rescue' or 'ignore', or produce them as one field and "
                "declare it as map<string, T>"
            )
        logger.warning(
            "%s: the schema is extended by %s; the batches have these columns from here on",
            where,
            ", ".join(f"{field.name}: {field.type}" for field in fields),
        )
        schema = pa.schema([*codecs.values.schema, *fields])
        kept = replace(codecs.kept, values=schema, evolved=evolved, version=codecs.kept.version + 1)
        return Codecs(replace(codecs.values, schema=schema), codecs.keys, kept)
