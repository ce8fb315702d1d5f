"""Writes records at a steady rate, each with its time of sending; a process of its own.

``python -m tests.faults.trickle BOOTSTRAP TOPIC RATE SECONDS PARTITION...``: records per second, to
the partitions in turn. Records that are due together go out together.
"""

from __future__ import annotations

import sys
import time

import confluent_kafka

#: Beside it, as many bytes as an ordinary record has.
_FILLING = "x" * 100


def main(bootstrap_servers: str, topic: str, rate: int, seconds: float, to: list[int]) -> None:
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "linger.ms": 0,
            # Without a limit it sends every record alone, however far behind the broker is.
            "max.in.flight": 5,
        }
    )
    start, sent, total = time.monotonic(), 0, int(rate * seconds)
    while sent < total:
        due = min(total, int((time.monotonic() - start) * rate) + 1)
        for number in range(sent, due):
            value = f'{{"sent_ns": {time.monotonic_ns()}, "filling": "{_FILLING}"}}'
            producer.produce(topic, value, partition=to[number % len(to)])
        sent = due
        producer.poll(0)
        time.sleep(max(0.002, start + sent / rate - time.monotonic()))
    if producer.flush(30):
        raise SystemExit("not all records were written")


if __name__ == "__main__":
    main(
        *sys.argv[1:3],
        rate=int(sys.argv[3]),
        seconds=float(sys.argv[4]),
        to=list(map(int, sys.argv[5:])),
    )
