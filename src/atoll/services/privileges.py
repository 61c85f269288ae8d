"""How OpenStack's services do what only root may do: by themselves.

Upstream runs them as users of their own, and starts a helper process for each of the libraries that need privileges (oslo.privsep). Who
runs guests here is root already, so the functions are called where they are needed. A site has five such helpers fewer, of 50 MB each.
"""

from __future__ import annotations


def use_own() -> None:
    """Have all privileged functions, also those that are imported later, run in this process."""
    import pyroute2
    from oslo_privsep import priv_context

    # It opens a socket in another network namespace in a child, which it ends by SIGTERM. As long as a process starts, that raises
    # SystemExit there (runtime/child.py), and the child, on its way out, takes the sockets out of the epoll instance that it shares with
    # its parent: which then waits for ever.
    pyroute2.config.disable_mp_signal = True
    # What `PrivContext.set_client_mode(False)` does for one of the contexts, for all of them.
    priv_context.PrivContext.client_mode = property(lambda _context: False, lambda _context, _value: None)  # type: ignore[assignment]
