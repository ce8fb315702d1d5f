"""A Ray of this process alone."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from bench.cpu import CpuTime, ray_workers

#: A Ray that uses less CPU than this, in seconds per second, has started; and this for each worker,
#: as those that wait at a gate use...
_QUIET_CPU = 0.1
_QUIET_CPU_OF_WORKER = 0.03
#: ...over so long, in seconds.
_LOOK_S = 0.5
#: Longest time to wait for that, in seconds.
_START_TIMEOUT_S = 60.0


@contextmanager
def local_ray() -> Iterator[None]:
    """Run Ray on this machine's cores; nothing is written into the home directory."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        os.environ.update(HOME=directory, RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="warning",
            object_store_memory=1 << 30,
            _temp_dir=directory,
        )
        try:
            await_rest()
            yield
        finally:
            ray.shutdown()


def await_rest() -> None:
    """Wait until Ray has started a worker for each core, and they rest.

    It starts them in the background, a CPU second each, which would count as the contender's; and
    others for those that have become actors.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    cores = int(ray.cluster_resources()["CPU"])
    while time.monotonic() < deadline:
        before = CpuTime.now()
        time.sleep(_LOOK_S)
        used = CpuTime.now().since(before)
        workers = len(ray_workers())
        quiet = _LOOK_S * (_QUIET_CPU + _QUIET_CPU_OF_WORKER * workers)
        if workers >= cores and used.consuming + used.of_ray < quiet:
            return
    raise RuntimeError(f"Ray has not come to rest within {_START_TIMEOUT_S:g} s")
