"""The parts of a request: its target, headers, body and user."""
