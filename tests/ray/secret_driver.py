"""A driver that is given secrets in every way, in a process of its own; see test_security.py.

Reads its orders as JSON from the file named first, starts every stream, writes what a user or an
operator may look at into the folder of the orders, and waits for a line on its standard input.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import ray
from ray import cloudpickle
from ray._private import ray_constants, state
from ray.experimental import internal_kv

from sabot_ray import KafkaConfig, OutputStream, Stream
from sabot_ray.kafka.aiokafka_source import AiokafkaSource
from sabot_ray.kafka.librdkafka import LibrdkafkaSource


def read(path: str) -> str:
    return Path(path).read_text()


def settings_of(order: dict[str, Any]) -> dict[str, Any]:
    """Return the settings; what is given as ["function", path] or ["text", path] is read."""
    ways: dict[str, Callable[[str], Any]] = {"function": lambda p: partial(read, p), "text": read}
    return {
        name: ways[value[0]](value[1]) if isinstance(value, list) else value
        for name, value in order["settings"].items()
    }


def key_value_store() -> dict[bytes, bytes | None]:
    """Return what the cluster's own store holds: exported classes, jobs, runtime environments."""
    names = [name for name in dir(ray_constants) if name.startswith("KV_NAMESPACE_")]
    return {
        key: internal_kv._internal_kv_get(key, namespace=namespace)
        for namespace in {getattr(ray_constants, name) for name in names}
        for key in internal_kv._internal_kv_list(b"", namespace=namespace)
    }


def write(
    orders: dict[str, Any], target: str, address: str, settings: dict[str, Any]
) -> OutputStream:
    """Start an output whose target alone asks for secrets, and wait until it has written."""
    stream = Stream.from_kafka(
        orders["open_address"], orders["topic"], backend=orders["backend"], schema={"n": "int64"}
    )
    use_cpp = orders["backend"] == "native"
    output = stream.to_kafka(address, target, use_cpp=use_cpp, wait=False, **settings)
    deadline = time.monotonic() + 30.0
    while output.status().rows < 1:
        # Raises what ended it, if something did.
        assert not output.wait(0.05)
        assert time.monotonic() < deadline
    return output


def main() -> None:
    orders = json.loads(Path(sys.argv[1]).read_text())
    found = Path(orders["found"])
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        _temp_dir=orders["ray"],
        _system_config={"min_spilling_size": 1, "object_spilling_threshold": 0.3},
    )
    source = {"native": LibrdkafkaSource, "aiokafka": AiokafkaSource}[orders["backend"]]
    schema = {"n": "int64"}
    common = {"backend": orders["backend"], "schema": schema, "start": "earliest"}
    kept: list[Any] = []
    outcomes: dict[str, str] = {}
    for order in orders["channels"]:
        name, address, topic = order["name"], order["address"], orders["topic"]
        settings = settings_of(order)
        shown = ""
        outcomes[name] = "read"
        try:
            more = {"debug": "all"} if orders["backend"] == "native" else {}
            if order["target"]:
                outcomes[name] = "written"
                output = write(orders, order["target"], address, {**more, **settings})
                shown += f"{output!r} {output.status()}"
                kept.append(output)
            elif order["ray"]:
                stream = Stream.from_kafka(address, topic, **common, **more, **settings)
                shown += repr(stream)
                (found / f"{name}.stream.pickle").write_bytes(cloudpickle.dumps(stream))
                run = stream.start()
                batches = iter(run)
                assert next(batches).num_rows == 1
                shown += f"{run!r} {run.status()} {run.status()!r}"
                kept += [run, batches]
            else:
                shown += repr(KafkaConfig(address, **settings))
                opened = source(address, topic, schema=schema, end="latest", **settings)
                assert opened.poll(10, timeout_s=20).num_rows == 1
                opened.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            outcomes[name] = type(error).__name__
            (found / f"{name}.error.txt").write_text(traceback.format_exc() + repr(error))
            (found / f"{name}.error.pickle").write_bytes(pickle.dumps(error))
        (found / f"{name}.shown.txt").write_text(shown)
    (found / "outcomes.txt").write_text(json.dumps(outcomes))
    kept.append([ray.put(numpy.zeros(20 << 20, numpy.uint8)) for _ in range(6)])
    listing = [state.actors(), state.jobs(), state.workers(), state.node_ids(), ray.nodes()]
    (found / "state.txt").write_text(repr(listing))
    (found / "timeline.txt").write_text(repr(state.timeline()))
    (found / "store.pickle").write_bytes(pickle.dumps(key_value_store()))
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
