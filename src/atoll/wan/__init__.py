"""The WAN between sites on one machine: namespaces, links, emulation."""
