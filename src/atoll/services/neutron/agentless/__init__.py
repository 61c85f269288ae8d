"""Ports and routers of sites whose hypervisor is fake: records without packets, and so without agents."""
