"""The emulated WAN between the sites of one machine: network namespaces, links, and two emulators."""
