"""The composition root: turns a Cloud into running processes, and keeps its files in one directory.

    lifecycle    up, down, destroy
    status       the state of all processes
    logs         the log files
    sites        the applied cloud and the settings of its sites, read from files alone
    clients      configuration of OpenStack's clients for a site
    composition  from the model to the runtime's plan
    state        the state directory: layout, version, lock, space
    cache        the cache of schema templates

Nothing is imported here, so that `atoll version` does not import the modules of `atoll up`.
"""
