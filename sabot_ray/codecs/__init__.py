"""Turns record values into Arrow columns; knows no Kafka client and nothing of Ray."""
