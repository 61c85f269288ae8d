"""The same resource at several sites: made, changed and deleted together, also at sites that are cut off."""
