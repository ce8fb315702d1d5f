"""The fallback's partitioners against librdkafka's own functions."""

from __future__ import annotations

import ctypes
import random

import confluent_kafka.cimpl
import pytest

from sabot_ray.kafka.partitioners import partitioner
from sabot_ray.kafka.sink import PARTITIONERS

KEYS = [b"", b"a", b"21", b"foobar", b"a-little-bit-long-string", *map(random.randbytes, range(90))]


@pytest.mark.parametrize("name", [n for n in PARTITIONERS if n != "random"])
def test_key_goes_where_librdkafka_sends_it(name: str) -> None:
    theirs = getattr(
        ctypes.CDLL(confluent_kafka.cimpl.__file__), f"rd_kafka_msg_partitioner_{name}"
    )
    theirs.restype = ctypes.c_int32
    theirs.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    ours = partitioner(name)
    # It chooses one at random among those that have a leader, of a topic that is none here.
    keys = [key for key in KEYS if key or name != "consistent_random"]
    for count in (1, 3, 7, 64):
        for key in keys:
            wanted = theirs(None, key, len(key), count, None, None)
            assert ours(key, range(count), range(count)) == wanted, (key, count)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("random", b"a"),
        ("murmur2_random", None),
        ("fnv1a_random", None),
        ("consistent_random", None),
        ("consistent_random", b""),
    ],
)
def test_records_without_a_key_go_to_any_partition_with_a_leader(
    name: str, key: bytes | None
) -> None:
    choose = partitioner(name)
    assert {choose(key, range(5), [1, 3]) for _ in range(100)} == {1, 3}
    assert {choose(key, range(5), []) for _ in range(200)} == set(range(5))


@pytest.mark.parametrize("name", ["murmur2", "fnv1a", "consistent"])
def test_no_key_counts_as_an_empty_one(name: str) -> None:
    choose = partitioner(name)
    assert choose(None, range(7), [0]) == choose(b"", range(7), [0])
