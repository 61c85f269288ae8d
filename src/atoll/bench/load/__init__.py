"""A load generator for HTTP APIs: open and closed loops at several sites, with latencies from the intended start of each request."""
