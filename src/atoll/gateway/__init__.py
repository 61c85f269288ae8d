"""A site's gateway: the HTTP endpoint for clients and for other sites' gateways."""
