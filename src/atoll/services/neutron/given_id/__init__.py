"""An API extension by which an administrator or a gateway gives a networking resource its id, which Neutron would otherwise generate."""
