"""The same resource at several sites: made, changed and deleted together, also at those that are cut off."""
