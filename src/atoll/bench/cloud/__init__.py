"""Several sites as one cloud, over an emulated WAN: what the gateway and the mesh cost, and how fast sites agree."""
