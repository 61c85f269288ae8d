"""The identity data that all sites share."""
