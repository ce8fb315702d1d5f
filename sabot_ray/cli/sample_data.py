"""Records that look like those of real topics, for `sabot-ray produce`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

_CURRENCIES: Final = ("EUR", "USD", "JPY", "GBP")
_COUNTRIES: Final = ("DE", "FR", "GB", "JP", "US")
_PAGES: Final = ("/", "/search", "/product", "/cart", "/checkout")
_PRODUCTS: Final = ("keyboard", "monitor", "cable", "mouse", "desk lamp")
#: Without a present, the times of a seeded run begin here.
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)

_Row = dict[str, Any]


def _transactions(random_: random.Random, number: int, at: str) -> tuple[str, _Row]:
    """Flat: payments of accounts."""
    account = f"acc-{random_.randrange(500):04d}"
    return account, {
        "id": number,
        "account": account,
        "amount": round(random_.lognormvariate(4.5, 1.5), 2),
        "currency": random_.choice(_CURRENCIES),
        "at": at,
    }


def _clicks(random_: random.Random, number: int, at: str) -> tuple[str, _Row]:
    """Structs in structs: page views of users."""
    user = f"user-{random_.randrange(2000):05d}"
    return user, {
        "id": number,
        "page": random_.choice(_PAGES),
        "duration_ms": int(random_.lognormvariate(7, 1)),
        "user": {
            "id": user,
            "country": random_.choice(_COUNTRIES),
            "device": {"os": random_.choice(("linux", "ios", "android")), "mobile": number % 3 > 0},
        },
        "referrer": random_.choice((None, "search", "newsletter")),
        "at": at,
    }


def _orders(random_: random.Random, number: int, at: str) -> tuple[str, _Row]:
    """Lists of structs: orders with their items."""
    customer = f"cust-{random_.randrange(300):04d}"
    items: list[_Row] = [
        {
            "product": random_.choice(_PRODUCTS),
            "quantity": random_.randint(1, 3),
            "price": round(random_.uniform(2, 400), 2),
        }
        for _ in range(random_.randint(1, 4))
    ]
    return customer, {
        "id": number,
        "customer": {"id": customer, "country": random_.choice(_COUNTRIES)},
        "items": items,
        "total": round(sum(item["quantity"] * item["price"] for item in items), 2),
        "tags": random_.sample(("gift", "express", "invoice"), random_.randint(0, 2)),
        "at": at,
    }


def _sensors(random_: random.Random, number: int, at: str) -> tuple[str, _Row]:
    """Lists of numbers and missing fields: readings of devices."""
    device = f"sensor-{random_.randrange(64):02d}"
    row: _Row = {
        "device": device,
        "sequence": number,
        "readings": [round(random_.gauss(21.5, 2), 2) for _ in range(4)],
        "position": {
            "lat": round(random_.uniform(47, 55), 5),
            "lon": round(random_.uniform(6, 15), 5),
        },
        "at": at,
    }
    if random_.random() < 0.1:
        row["alarm"] = random_.choice(("battery low", "out of range"))
    return device, row


#: Name -> what makes a key and a value.
SHAPES: Final[dict[str, Callable[[random.Random, int, str], tuple[str, _Row]]]] = {
    "transactions": _transactions,
    "clicks": _clicks,
    "orders": _orders,
    "sensors": _sensors,
}


def sample_records(shape: str, seed: int | None) -> Iterator[tuple[bytes, bytes]]:
    """Make keys and JSON values, without end.

    Args:
        shape: One of `SHAPES`.
        seed: The same seed gives the same records, a second apart; None gives others each time,
            with the present as their time.
    """
    random_ = random.Random(seed)
    make = SHAPES[shape]
    number = 0
    while True:
        at = datetime.now(UTC) if seed is None else _BEGIN + timedelta(seconds=number)
        text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        key, row = make(random_, number, text)
        yield key.encode(), orjson.dumps(row)
        number += 1
