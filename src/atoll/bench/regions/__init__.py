"""Separate regions under a broker: full sites that do not cooperate, and a proxy that forwards users' requests to all of them."""
