"""A database engine for OpenStack services of several sites: a log of transactions in Redis, and a SQLite replica at each site.

The log certifies each transaction, which means that it checks the transaction for conflicts before it accepts it; see docs/stores.md.
"""
