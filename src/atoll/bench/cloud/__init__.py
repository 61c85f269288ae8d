"""`atoll bench cloud`: measures the costs of the gateway and the mesh over an emulated WAN, and the time until all sites show a change."""
