"""Fuzzing of all that strangers write: see `run`."""
