"""The control protocol: how the command line asks the supervisor, the WAN's daemon and a site's gateway.

A server listens on a Unix socket that only its own user and root may use. A message is one line with one JSON object:

    request   {"verb": …, and the verb's own fields}
    answer    any number of {"event": …}, then one of {"ok": …} and {"error": {"code": …, "message": …, "hint": …}}

An answer may carry open sockets as ancillary data. `control.client` is synchronous and imports no event loop, as every `atoll` command
loads it; `control.server` runs in asyncio.
"""
