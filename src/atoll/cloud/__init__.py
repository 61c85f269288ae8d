"""The model of a cloud: the names of its sites, their addresses and ports, and the services that they run.

The package reads and writes only the cloud's YAML, and reads the files that the YAML names.
"""

from atoll.cloud.document import dump_cloud, parse_cloud, read_cloud
from atoll.cloud.model import BASE_PORT, PORT_OFFSETS, PORT_STEP, Cloud, Rabbit, ServicePlan, Site

__all__ = [
    "BASE_PORT",
    "PORT_OFFSETS",
    "PORT_STEP",
    "Cloud",
    "Rabbit",
    "ServicePlan",
    "Site",
    "dump_cloud",
    "parse_cloud",
    "read_cloud",
]
