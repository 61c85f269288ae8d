"""Nova, the compute service of a site, and libvirt beneath it."""
