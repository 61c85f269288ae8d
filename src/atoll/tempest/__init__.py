"""Preparation of a site for Tempest, OpenStack's test suite: its configuration file, and the resources that it needs."""
