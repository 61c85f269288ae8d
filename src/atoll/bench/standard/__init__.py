"""The usual deployment of the same OpenStack, for comparison: MariaDB, RabbitMQ, two gunicorn workers for each API, Nova's daemons."""

from atoll.bench.standard.deployment import run
from atoll.bench.standard.servers import check_requirements

__all__ = ["check_requirements", "run"]
