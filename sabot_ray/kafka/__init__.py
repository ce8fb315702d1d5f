"""Talks to the brokers; knows nothing of Ray."""
