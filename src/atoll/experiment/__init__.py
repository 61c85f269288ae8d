"""Experiments from files, and placement plans: what to measure, how the results compare, and where each service of a cloud belongs."""
