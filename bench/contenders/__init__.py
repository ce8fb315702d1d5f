"""The contenders: a module each, with ``contend(job)``; see `bench.contender`.

Modules are named after the contender, so ``ray_data`` is the contender called ``ray``.
"""
