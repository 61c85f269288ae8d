"""One request: its target, headers, body and sender."""
