"""Light-weight hosts on a site's networks: network namespaces plugged into the site's switch like guests."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from pathlib import Path

from deployment import Deployment, until
from landscape import Landscape

from atoll.services.neutron.ovn import layout

_PLAIN = """
import array, fcntl, socket, struct, sys
for what in (0x17, 0x1f, 0x25):  # checksums, TSO and USO: the switch in user space wants whole packets
    value = array.array("I", [what, 0])
    try:
        fcntl.ioctl(socket.socket(), 0x8946, struct.pack("16sP", sys.argv[1].encode(), value.buffer_info()[0]))
    except OSError:
        pass
"""
"""A program that disables offloads, as ethtool(8) would."""

GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=2).read().decode())"


def run(*command: str | Path | int, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], input=stdin, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 or not check, f"{command}: {done.stdout} {done.stderr}"
    return done


class Switch:
    """The switch of a site and its network namespace."""

    def __init__(self, cloud: Deployment, site: str) -> None:
        self._cloud, self._site = cloud, site

    def inside(self, *command: str | Path | int, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the site's own network."""
        pid = self._cloud.pids()[f"{self._site}/vswitchd"]
        return run("nsenter", f"--target={pid}", "--net", *command, check=check)

    def tool(self, program: str, *words: str) -> str:
        """Run a program of Open vSwitch or OVN on the site's databases, and return its output."""
        database = layout.database(self._cloud.settings(self._site))
        return run(program, f"--db={database}", "--timeout=20", *words).stdout.strip()


class Host:
    """A host on one of a site's networks, which is removed with the context.

    Args:
        switch: the switch of the site.
        name: its name of at most ten characters.
        address: its address with the prefix; the first address of the network is its gateway.
        mac: the MAC address of its port; empty if the switch may choose.
        port: the id of its Neutron port; a host without one is on the external network.
    """

    def __init__(self, switch: Switch, name: str, address: str, mac: str = "", port: str = "") -> None:
        self.address, self.name, self._switch, self.device = address.partition("/")[0], name, switch, f"g-{name}"
        self.port = port
        self._outer, self._servers = f"tap-{name}", list[subprocess.Popen[bytes]]()
        self._namespace = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        pid = self._namespace.pid
        until(lambda: not Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net"), "a network namespace", 10)
        switch.inside("ip", "link", "add", self._outer, "type", "veth", "peer", "name", self.device, "netns", pid)
        switch.inside("ip", "link", "set", self._outer, "up")
        switch.inside("sh", "-c", f"echo 8 >/proc/sys/net/ipv4/conf/{self._outer}/arp_ignore")  # as for guests' interfaces
        plug = ["--may-exist", "add-port", layout.INTEGRATION_BRIDGE if port else layout.EXTERNAL_BRIDGE, self._outer]
        told = ["--", "set", "Interface", self._outer, f"external_ids:iface-id={port}"] if port else []
        switch.tool("ovs-vsctl", *plug, *told)
        if mac:
            self.run("ip", "link", "set", self.device, "address", mac)
        self.run("ip", "address", "add", address, "dev", self.device)
        self.run("ip", "link", "set", self.device, "mtu", "1400", "up")
        self.run("ip", "link", "set", "lo", "up")
        if port:
            gateway = ipaddress.ip_interface(address).network.network_address + 1
            self.run("ip", "route", "add", "default", "via", str(gateway))
        self.run(sys.executable, "-c", _PLAIN, self.device)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._switch.tool("ovs-vsctl", "--if-exists", "del-port", self._outer)
        self._namespace.kill()
        self._namespace.wait()

    def run(self, *command: str | Path | int, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program on the host."""
        return run("nsenter", f"--target={self._namespace.pid}", "--net", *command, check=check, stdin=stdin)

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a program that runs until the host is removed."""
        inside = ["nsenter", f"--target={self._namespace.pid}", "--net", *map(str, command)]
        self._servers.append(subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return self._servers[-1]

    def stop(self) -> None:
        """End all programs that `start` started."""
        for server in self._servers:
            server.terminate()
            server.wait()

    def serve(self, port: int, directory: Path) -> None:
        """Serve a page with the host's name over HTTP."""
        directory.mkdir(exist_ok=True)
        (directory / "index.html").write_text(self.name)
        self.start(sys.executable, "-m", "http.server", str(port), "--directory", directory)

    def gets(self, address: str, port: int = 80) -> str:
        """Return the page of another host; empty without an answer."""
        return self.run(sys.executable, "-c", GET, f"http://{address}:{port}/", check=False).stdout.strip()


def plug(landscape: Landscape, switch: Switch, name: str, network: str = "") -> Host:
    """Create a port on a Neutron network, and return a host on it."""
    fields = {"binding:host_id": landscape.site, "device_owner": "compute:test", "security_groups": [landscape.group]}
    port = landscape.neutron("port", network_id=network or landscape.network, name=name, **fields)
    shown = landscape.api.expect("network", "GET", f"/v2.0/ports/{port}")["port"]
    host = Host(switch, name, f"{shown['fixed_ips'][0]['ip_address']}/24", shown["mac_address"], port)
    until(lambda: landscape.api.expect("network", "GET", f"/v2.0/ports/{port}")["port"]["status"] == "ACTIVE", f"port of {name}", 60)
    return host
