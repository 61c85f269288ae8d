"""Separate regions under a top-down broker: full sites that do not cooperate, and a proxy that asks all of them."""
