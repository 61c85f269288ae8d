"""Garbage collection: fill levels by radio, a forecast, and each morning's routes."""
