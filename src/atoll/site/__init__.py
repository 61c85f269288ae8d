"""The composition root: turns a Cloud into running processes, and keeps what belongs to it in one directory.

    lifecycle    up, down, destroy
    status       what runs
    logs         what it said
    sites        what is known without asking anything that runs: the applied cloud, a site's settings
    clients      how OpenStack's clients find a site
    composition  from the model to the runtime's plan
    state        the state directory: layout, version, lock, space
    cache        the cache of schema templates

Nothing is imported here, so that `atoll version` needs not import what `atoll up` does.
"""
