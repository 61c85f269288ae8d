"""The peers of a cloud: members, transport, the replicated document, coordinates, certificates."""
