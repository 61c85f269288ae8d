"""Traces of requests through all processes and sites: recorded as OpenTelemetry spans, kept in a local store, read and explained.

`recorder`, `sampling`, `spans`, `propagation` and `hooks` run in the processes of a site. `store`, `tree` and the modules that use them
read the recorded spans. The latter need neither the processes nor OpenTelemetry, so that traces recorded on another machine can be read.
"""
