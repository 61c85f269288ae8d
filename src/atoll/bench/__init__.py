"""Experiments: what a site costs and how fast it is, measured on this machine and against the usual deployment."""
