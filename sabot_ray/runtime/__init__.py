"""Runs a stream on Ray actors."""
