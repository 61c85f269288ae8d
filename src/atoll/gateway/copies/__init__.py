"""The same resource at several sites: created, changed and deleted together, even at sites that are cut off at the time."""
