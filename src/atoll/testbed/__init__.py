"""Clouds whose sites are on hosts of a testbed, which EnOSlib reserves: one site on each host, real links between them."""
