"""One OpenStack cloud out of many small sites."""

__version__ = "0.2.0"
