"""Keeps the progress of a stream."""
