"""Kafka as a fast, trustworthy source and sink of Ray."""
