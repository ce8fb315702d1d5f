"""The records that every contender reads: the same bytes for the same seed."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

DEFAULT_SEED = 20_240_517

Row = dict[str, Any]

_NAMES = ("Ana", "Björn", "Chloé", "Đorđe", "Eve", "李雷", "Günther", "Ольга", "Ivan", "Judit")
_CITIES = ("Aachen", "Bruxelles", "Çanakkale", "Düsseldorf", "東京", "Göteborg", "Łódź", "Oslo")
_WORDS = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett"),
    *("kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango"),
)
_STATES = ("authorised", "captured", "declined", "refunded", "disputed")
_CURRENCIES = ("EUR", "USD", "GBP", "JPY", "SEK")


@dataclass(frozen=True)
class Shape:
    """One kind of record.

    Attributes:
        name: What it is called in results.
        schema: The columns that its values become.
        text: The string column that results are checked by.
        row: Makes the row with this id.
    """

    name: str
    schema: pa.Schema
    text: str
    row: Callable[[int, random.Random], Row]

    def rows(self, count: int, seed: int) -> Iterator[Row]:
        """Yield the rows with the ids 0 to ``count - 1``."""
        source = random.Random(seed)
        return (self.row(number, source) for number in range(count))


def encode(row: Row) -> bytes:
    """Return a row as a record's value: JSON without white space."""
    return orjson.dumps(row)


def _rfc3339(number: int) -> str:
    second, micro = divmod(number * 1_733, 1_000_000)
    return (
        f"2024-05-{17 + second // 86_400 % 14:02}T{second // 3600 % 24:02}:"
        f"{second // 60 % 60:02}:{second % 60:02}.{micro:06}Z"
    )


def _narrow(number: int, source: random.Random) -> Row:
    draw = source.getrandbits(48)
    return {
        "id": number,
        "time": _rfc3339(number),
        "account": f"account-{draw & 0xFFFFFF:08}",
        "amount": (draw >> 24 & 0xFFFFF) / 100,
        "merchant": f"{_WORDS[draw % 20]} {_WORDS[draw // 20 % 20]} limited, "
        f"{_WORDS[draw // 400 % 20]} branch {draw % 997}",
        "approved": draw % 7 != 0,
    }


_NARROW = Shape(
    "narrow",
    pa.schema(
        {
            "id": pa.int64(),
            "time": pa.string(),
            "account": pa.string(),
            "amount": pa.float64(),
            "merchant": pa.string(),
            "approved": pa.bool_(),
        }
    ),
    "account",
    _narrow,
)


def _wide(number: int, source: random.Random) -> Row:
    row: Row = {"id": number}
    for index in range(12):
        row[f"count_{index}"] = source.getrandbits(20 + index)
    for index in range(10):
        row[f"ratio_{index}"] = source.getrandbits(30) / 1000 if index % 4 else None
    for index in range(12):
        draw = source.getrandbits(16)
        kind = draw % 4
        if kind == 0:
            text = None
        elif kind == 1:
            text = f"{_NAMES[draw % 10]} {_WORDS[draw // 10 % 20]}, {_CITIES[draw % 8]}"
        else:
            text = f"{_WORDS[draw % 20]}-{draw} of {_WORDS[draw // 20 % 20]} {_WORDS[draw % 17]}"
        row[f"text_{index}"] = text
    for index in range(5):
        row[f"flag_{index}"] = source.random() < 0.5
    return row


_WIDE = Shape(
    "wide",
    pa.schema(
        [
            ("id", pa.int64()),
            *((f"count_{index}", pa.int64()) for index in range(12)),
            *((f"ratio_{index}", pa.float64()) for index in range(10)),
            *((f"text_{index}", pa.string()) for index in range(12)),
            *((f"flag_{index}", pa.bool_()) for index in range(5)),
        ]
    ),
    "text_1",
    _wide,
)


def _nested(number: int, source: random.Random) -> Row:
    draw = source.getrandbits(48)
    return {
        "id": number,
        "state": _STATES[draw % 5],
        "customer": {
            "name": f"{_NAMES[draw % 10]} {_WORDS[draw % 20]}",
            "address": {
                "street": f"{_WORDS[draw // 20 % 20]} street {draw % 300}",
                "city": _CITIES[draw % 8],
                "location": [(draw % 180_000) / 1000 - 90, (draw % 360_000) / 1000 - 180],
            },
            "email": f"{_WORDS[draw % 20]}.{draw % 99_991}@example.org",
        },
        "items": [
            {
                "sku": f"sku-{(draw >> index) & 0xFFFF:05}",
                "quantity": 1 + (draw >> index) % 9,
                "price": ((draw >> index) & 0xFFFF) / 100,
                "currency": _CURRENCIES[(draw >> index) % 5],
            }
            for index in range(1 + draw % 7)
        ],
        "tags": [_WORDS[(draw >> index) % 20] for index in range(draw % 4)],
    }


_NESTED = Shape(
    "nested",
    pa.schema(
        {
            "id": pa.int64(),
            "state": pa.string(),
            "customer": pa.struct(
                {
                    "name": pa.string(),
                    "address": pa.struct(
                        {
                            "street": pa.string(),
                            "city": pa.string(),
                            "location": pa.list_(pa.float64()),
                        }
                    ),
                    "email": pa.string(),
                }
            ),
            "items": pa.list_(
                pa.struct(
                    {
                        "sku": pa.string(),
                        "quantity": pa.int64(),
                        "price": pa.float64(),
                        "currency": pa.string(),
                    }
                )
            ),
            "tags": pa.list_(pa.string()),
        }
    ),
    "state",
    _nested,
)


def _timed(number: int, source: random.Random) -> Row:
    return {**_narrow(number, source), "sent_ns": time.monotonic_ns()}


#: A narrow row that says when it was made, on the clock that all processes of a machine share.
_TIMED = Shape("timed", _NARROW.schema.append(pa.field("sent_ns", pa.int64())), "account", _timed)

SHAPES = {shape.name: shape for shape in (_NARROW, _WIDE, _NESTED, _TIMED)}


class Digest:
    """What a contender's result is checked by: the number of rows, the ids' sum, a column's text.

    The text is hashed in order, so rows that are swapped, lost or doubled are all noticed.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._hash = hashlib.blake2b(digest_size=16)
        self.rows = 0
        self.id_sum = 0

    def add(self, ids: Iterable[int], texts: Iterable[str | None]) -> None:
        """Count rows, given as their two columns."""
        ids = list(ids)
        self.rows += len(ids)
        self.id_sum += sum(ids)
        self._hash.update("".join("\1" if text is None else f"{text}\0" for text in texts).encode())

    def add_batch(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Count a batch; its schema must be the shape's.

        Raises:
            ValueError: The schema differs.
        """
        if not batch.schema.equals(self._shape.schema):
            raise ValueError(f"expected the schema\n{self._shape.schema}\nfound\n{batch.schema}")
        self.add(batch.column("id").to_pylist(), batch.column(self._shape.text).to_pylist())

    def result(self) -> dict[str, int | str]:
        """Return what must be equal."""
        return {"rows": self.rows, "id_sum": self.id_sum, "text": self._hash.hexdigest()}
