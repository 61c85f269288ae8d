"""Lists of several sites as one."""
