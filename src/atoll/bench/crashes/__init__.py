"""Crash points: a process of a site is killed exactly there, in the middle of what a client asked for, and nothing may come of it."""
