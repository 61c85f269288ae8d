"""Privileged functions that run in the service's own process.

Upstream runs services as unprivileged users, and starts a helper process of 50 MB for each library that needs privileges (oslo.privsep).
Services with real guests run as root here, so the functions are called directly: a site has five helpers fewer.
"""

from __future__ import annotations


def disable_privsep_daemons() -> None:
    """Run all privileged functions in this process, including those of libraries that are imported later."""
    import pyroute2
    from oslo_privsep import priv_context

    # pyroute2 opens a socket in another network namespace in a child, and ends the child by SIGTERM. While a process starts, SIGTERM
    # raises SystemExit there (runtime/child.py), and the exiting child removes the sockets from the epoll instance that it shares with
    # its parent, which then waits for ever.
    pyroute2.config.disable_mp_signal = True
    # The effect of `PrivContext.set_client_mode(False)`, for all contexts.
    priv_context.PrivContext.client_mode = property(lambda _context: False, lambda _context, _value: None)  # type: ignore[assignment]  # replaces it
