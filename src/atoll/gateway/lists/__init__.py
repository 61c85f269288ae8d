"""Lists of several sites, merged into one answer."""
