"""CPU time of other processes, to the nanosecond, and who belongs to whom."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path


def process_cpu_s(pid: int) -> float:
    """Return the user and system time of a process; 0 if it is gone."""
    # The kernel's id of a process's CPU clock, as clock_getcpuclockid() makes it; /proc only counts
    # hundredths of a second.
    clock = (~pid << 3) | 2
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def descendants(pid: int) -> list[int]:
    """Return the processes below a process, at any depth."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            # The name, in parentheses, may itself hold spaces and parentheses.
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def title(pid: int) -> str:
    """Return a process's command line; Ray writes into it what a worker does. Empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


def ray_workers(name: str = "") -> list[int]:
    """Return the Ray workers below this process, or those that run an actor of this class.

    A worker that Ray is still starting is not among them.
    """
    return [pid for pid in descendants(os.getpid()) if title(pid).startswith(f"ray::{name}")]


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds used so far.

    Attributes:
        driver: By this process.
        workers: By each Ray worker below it.
        ray: By each of the others below it: raylet, GCS, log monitor, workers that just start.
    """

    driver: float
    workers: dict[int, float] = field(default_factory=dict)
    ray: dict[int, float] = field(default_factory=dict)

    @classmethod
    def now(cls) -> CpuTime:
        """Read the clocks."""
        reading = cls(time.process_time())
        for pid in descendants(os.getpid()):
            kind = reading.workers if title(pid).startswith("ray::") else reading.ray
            kind[pid] = process_cpu_s(pid)
        return reading

    def since(self, earlier: CpuTime) -> CpuTime:
        """Return what was used since then, process by process.

        A worker that was still starting then is one now: what it had used by then does not count.
        """
        before = {**earlier.ray, **earlier.workers}
        return CpuTime(
            self.driver - earlier.driver,
            {pid: used - before.get(pid, 0.0) for pid, used in self.workers.items()},
            {pid: used - before.get(pid, 0.0) for pid, used in self.ray.items()},
        )

    @property
    def consuming(self) -> float:
        """Of the driver and the workers."""
        return self.driver + sum(self.workers.values())

    @property
    def of_ray(self) -> float:
        """Of Ray's own processes."""
        return sum(self.ray.values())
