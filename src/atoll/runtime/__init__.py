"""Fork servers, and the supervisor of all processes of a state directory. This package does not depend on OpenStack."""
