"""A plugin of the `openstack` client: `--os-scope`. It imports nothing else of Atoll, and needs no site on its machine."""
