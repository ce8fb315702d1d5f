"""CPU time of other processes, to the nanosecond, and who belongs to whom."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
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


def _is_ray_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds used so far.

    Attributes:
        consuming: By this process and by the Ray workers below it.
        ray: By all others below it: raylet, GCS, log monitor.
    """

    consuming: float
    ray: float

    @classmethod
    def now(cls) -> CpuTime:
        """Read the clocks."""
        consuming, ray = time.process_time(), 0.0
        for pid in descendants(os.getpid()):
            if _is_ray_worker(pid):
                consuming += process_cpu_s(pid)
            else:
                ray += process_cpu_s(pid)
        return cls(consuming, ray)

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.consuming - earlier.consuming, self.ray - earlier.ray)
