"""The two HTTP servers of a gateway, and the limits of their clients."""
