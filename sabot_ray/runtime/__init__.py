"""Runs a stream on Ray actors."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from sabot_ray.runtime.plan import PlannedBranch, prepare
from sabot_ray.runtime.run import StreamRun


def start(
    branches: Sequence[PlannedBranch], *, owns_group: bool, counts_only: bool = False
) -> StreamRun:
    """Plan and start a run; connects to Ray, or starts it, where the caller has not.

    Args:
        branches: What is read, and what is done with the batches of each.
        owns_group: Whether to join the consumer groups and commit there.
        counts_only: Whether only row numbers are wanted.
    """
    plans = prepare(branches, owns_group=owns_group, counts_only=counts_only)
    try:
        if not ray.is_initialized():
            ray.init()
        return StreamRun([(s.options, plan) for s, plan in zip(branches, plans, strict=True)])
    except BaseException:
        for plan in plans:
            if plan.store is not None:
                plan.store.close()
        raise
