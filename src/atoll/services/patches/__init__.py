"""Patches of upstream's code; `registry` lists every place where Atoll reaches into it."""
