"""Fork servers, and the supervisor of all processes of a state directory. Nothing here depends on OpenStack."""
