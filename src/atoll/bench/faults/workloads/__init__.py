"""The workloads of clients, with one module for each type of resource."""

from __future__ import annotations

from atoll.bench.faults.workloads.grants import GRANTS
from atoll.bench.faults.workloads.images import IMAGES
from atoll.bench.faults.workloads.projects import PROJECTS
from atoll.bench.faults.workloads.servers import SERVERS
from atoll.bench.faults.workloads.users import USERS

WORKLOADS = {workload.type: workload for workload in (USERS, PROJECTS, GRANTS, IMAGES, SERVERS)}
"""The workloads by the type of their resources."""
