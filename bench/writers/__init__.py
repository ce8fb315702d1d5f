"""Contenders that write: a module each, with ``prepare(job)``; see `bench.writer`."""
