"""Runs a stream on Ray actors."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from sabot_ray.runtime.operators import Operator
from sabot_ray.runtime.plan import SourceOptions, prepare
from sabot_ray.runtime.run import StreamRun


def start(
    options: SourceOptions,
    operators: Sequence[Operator],
    *,
    owns_group: bool,
    counts_only: bool = False,
) -> StreamRun:
    """Plan and start a run; connects to Ray, or starts it, where the caller has not.

    Args:
        options: The source.
        operators: What is done with its batches.
        owns_group: Whether to join the consumer group and commit there.
        counts_only: Whether only row numbers are wanted.
    """
    plan = prepare(options, operators, owns_group=owns_group, counts_only=counts_only)
    try:
        if not ray.is_initialized():
            ray.init()
        return StreamRun(options, plan)
    except BaseException:
        if plan.store is not None:
            plan.store.close()
        raise
