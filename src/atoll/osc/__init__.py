"""A plugin of the `openstack` client: `--os-scope`, `--os-strict`, and a line about sites that do not answer.

It imports nothing else of Atoll, and needs no site on its machine.
"""
