"""What all sites know: transport, membership, replicas, identity, coordinates."""
