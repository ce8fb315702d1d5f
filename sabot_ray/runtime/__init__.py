"""Runs a stream on Ray actors. Imports nothing here: a reader starts with what it needs only."""
