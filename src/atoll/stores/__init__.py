"""Database engines for OpenStack services. So far: Redis as a certified log, with a SQLite replica at each site; see docs/stores.md."""
