"""The model of a cloud: what its sites are called, where they listen, what they run.

Pure: no input or output but the cloud's own YAML.
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
