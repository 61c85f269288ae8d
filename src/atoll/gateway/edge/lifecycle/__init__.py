"""ETSI MEC 010-2: packages of applications, and the life cycle of their instances.

- `packages`, `package_bodies`: the requests about packages, which are applications of this cloud;
- `life`, `life_bodies`: the requests about instances, which are servers, or records of instances without a server;
- `store`: the records of instances without a server, and of operations;
- `operations`: the progress of operations, as their servers show it.
"""
