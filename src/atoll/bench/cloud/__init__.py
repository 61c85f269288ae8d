"""`atoll bench cloud`: the costs of the gateway and the mesh, and the time until sites agree, over an emulated WAN."""
