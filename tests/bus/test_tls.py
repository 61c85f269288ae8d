"""TLS with client certificates between machines, and the router's command line."""

import signal
import socket
import ssl
import subprocess
import sys

import pytest
from certificates import Authority
from stage import Proxy, free_port, until


@pytest.fixture
def authority(stage) -> Authority:
    return Authority(stage.directory, "authority")


@pytest.fixture
def port(stage, authority) -> int:
    """Return a router's port for holders of the authority's certificates, with a server behind it."""
    made = free_port()
    tls = [str(authority.file), *authority.sign("router")]
    stage.router("there", [f"tls/127.0.0.1:{made}"], [], tls=tls, allow=["client", "good"])
    server = stage.server(machine="there")
    assert server.do("call", method="who", retry=-1) == "s"
    return made


def options(authority: Authority, certificate: tuple[str, str] = ("", "")) -> dict[str, object]:
    return {
        "mode": "client",
        "tls": True,
        "tls_ca_file": str(authority.file),
        "tls_cert_file": certificate[0],
        "tls_key_file": certificate[1],
        "socket_dir": "none",
    }


def test_right_certificate_is_let_in(stage, authority, port):
    client = stage.process(f"zenoh://127.0.0.1:{port}/v", **options(authority, authority.sign("client")))
    assert client.do("call", method="who", retry=-1) == "s"


def tell(stage, port, **given) -> Proxy:
    """Start a process that wants to send a message; return the link over which it tries to connect."""
    link = stage.proxy(port)
    client = stage.process(f"zenoh://127.0.0.1:{link.port}/v", **given)
    client.begin("call", method="tell", what="x", retry=-1)
    return link


def test_no_certificate_or_a_foreign_or_unlisted_one_is_not(stage, authority, port):
    foreign = Authority(stage.directory, "foreign")
    links = [
        tell(stage, port, **options(authority)),
        tell(stage, port, **options(authority, foreign.sign("stranger"))),
        tell(stage, port, **options(foreign, authority.sign("deceived"))),
        tell(stage, port, **options(authority, authority.sign("unlisted"))),
        tell(stage, port, mode="client", socket_dir="none"),
    ]
    for link in links:
        until(lambda link=link: link.accepted >= 2, "it was refused and tries again")
    assert stage.words() == []
    good = stage.process(f"zenoh://127.0.0.1:{port}/v", **options(authority, authority.sign("good")))
    assert good.do("call", method="who", retry=-1) == "s", "the router must still serve after the refused connections"
    assert stage.words() == []


def test_certificate_must_name_the_host_unless_told_otherwise(stage, authority):
    port = free_port()
    stage.router("there", [f"tls/127.0.0.1:{port}"], [], tls=[str(authority.file), *authority.sign("router", "10.9.8.7")], allow=["client"])
    stage.server(machine="there")
    mine = options(authority, authority.sign("client"))
    careful = tell(stage, port, **mine)
    until(lambda: careful.accepted >= 2, "it refused and tries again")
    assert stage.words() == []
    careless = stage.process(f"zenoh://127.0.0.1:{port}/v", **mine, tls_verify_name=False)
    assert careless.do("call", method="who", retry=-1) == "s"


def test_router_from_the_command_line(stage, authority):
    port, sockets = free_port(), stage.directory / "there"
    certificate, key = authority.sign("router")
    arguments = ["--listen", f"tls/127.0.0.1:{port}", "--socket-dir", str(sockets)]
    arguments += ["--tls-ca", str(authority.file), "--tls-cert", certificate, "--tls-key", key, "--allow", "client"]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "atoll.bus.router", *arguments], stderr=subprocess.PIPE, text=True
    ) as router:
        try:
            until(lambda: answers(port, authority), "the router listens")
            stage.server(machine="there")
            client = stage.process(f"zenoh://127.0.0.1:{port}/v", **options(authority, authority.sign("client")))
            assert client.do("call", method="who", retry=-1) == "s"
            router.send_signal(signal.SIGTERM)
            assert router.wait(60) == 0
            assert len(list(sockets.glob("*.sock"))) == 1, "only the server's socket may be left"
        finally:
            router.kill()


def answers(port: int, authority: Authority) -> bool:
    """Return whether a TLS server with a certificate of the authority answers there."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            ssl.create_default_context(cafile=authority.file).wrap_socket(plain, server_hostname="127.0.0.1"),
        ):
            return True
    except ConnectionRefusedError:
        return False
