"""ETSI MEC 010-2: packages of applications, and the life cycle of their instances.

- `packages`, `package_bodies`: the requests about packages, which are applications of this cloud;
- `life`, `life_bodies`: the requests about instances, which are servers, or identifiers that are kept here;
- `store`: the identifiers that have no server yet, and the operations;
- `operations`: the progress of operations, which is that of their servers.
"""
