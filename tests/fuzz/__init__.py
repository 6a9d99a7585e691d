"""Schemathesis against a real broker: every address, every kind of caller."""
