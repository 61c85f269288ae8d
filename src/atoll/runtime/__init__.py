"""Fork servers, a supervisor and its control socket: processes only, nothing of OpenStack."""
