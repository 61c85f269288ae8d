"""What all sites know of identity: Keystone's tables, kept equal at all sites by way of the mesh's document."""
