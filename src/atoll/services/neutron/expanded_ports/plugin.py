"""A Neutron API extension, `expanded-ports`: one request returns a port with all data that Nova reads of it.

To build a server's network information, Nova asks Neutron for the port, its network (twice), its subnets, the ports of their DHCP servers
and its floating IPs. Before that, it asks for the networks, the quota and the number of ports of the project, and it creates a port and
binds it in two requests. This extension offers requests that each replace several of these:

`GET /v2.0/expanded-ports`
    A list of ports, with the filters of `GET /v2.0/ports`.
`POST /v2.0/expanded-ports`
    Create a port, and bind it: `{"port": {…}, "bind": {…}}`. The user's authority decides on `port`, as in `POST /v2.0/ports`. The
    authority of the service whose token came with the user's decides on `bind`, as in `PUT /v2.0/ports/ID`.
`PUT /v2.0/expanded-ports/ID`
    Update a port, as in `PUT /v2.0/ports/ID`.
`GET /v2.0/expanded-networks`
    A list of networks, with the filters of `GET /v2.0/networks`; each with the quota of ports of the caller's project.

Each port or network of an answer has a further attribute, `expanded` (`views.py`). No caller learns more than from the plain API: the
policies of the plain API decide on its content, by the identity of the caller or, if a service token came too, of that service.

`GET /v2.0/port-group-names`
    A list of ports, with the filters of `GET /v2.0/ports`; each with the ids and names of those of its security groups that the caller may
    see. It is an extension of its own, `port-group-names`.

Other methods have the same effect at these paths as at `/v2.0/ports` and `/v2.0/networks`. The extension is switched on by
`service_plugins` (entry point `expanded-ports`) and by `api_extensions_path` (the directory `extensions`).
"""

from __future__ import annotations

from neutron_lib.services import base

ALIAS = "expanded-ports"
GROUP_NAMES = "port-group-names"


class ExpandedPortsPlugin(base.ServicePluginBase):
    """The plug-in that declares the extension: Neutron loads only extensions that a plug-in declares."""

    supported_extension_aliases = (ALIAS, GROUP_NAMES)

    def get_plugin_type(self) -> str:
        """Return the key under which Neutron keeps the plugin."""
        return ALIAS

    def get_plugin_description(self) -> str:
        """Return a description for Neutron's log."""
        return "Returns ports with all that Nova reads of them."
