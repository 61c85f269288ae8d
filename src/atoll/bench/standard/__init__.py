"""The usual deployment of the same OpenStack: MariaDB, RabbitMQ, gunicorn with two workers for each API, Nova's daemons as processes."""

from atoll.bench.standard.deployment import run
from atoll.bench.standard.servers import check_requirements

__all__ = ["check_requirements", "run"]
