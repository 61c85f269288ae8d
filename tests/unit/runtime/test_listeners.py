import os
import socket

import pytest
from programs import free_port

from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.runtime.listeners import Listeners, holder_of
from atoll.runtime.spec import Process


def process(name, *ports, host="127.0.0.1"):
    return Process(name, "server", "a:b", listen=tuple((host, port) for port in ports))


@pytest.fixture
def listeners():
    listeners = Listeners()
    yield listeners
    listeners.keep([])


def test_a_port_in_use_is_named_with_its_holder_and_nothing_is_bound(listeners):
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AtollError) as caught:
            listeners.bind([process("paris/one", free), process("paris/two", port)])
    assert caught.value.kind.code == "port.in_use"
    assert f"port {port} of paris/two is in use by pid {os.getpid()} (" in caught.value.message
    with socket.create_server(("127.0.0.1", free)):
        pass


def test_two_processes_cannot_have_one_port(listeners):
    with pytest.raises(AtollError, match=r"b and a have the same port 5: expected different ports"):
        listeners.bind([process("a", 5), process("b", 5)])


def test_an_address_of_another_machine_is_unusable(listeners):
    with pytest.raises(AtollError) as caught:
        listeners.bind([process("a", 5000, host="192.0.2.1")])
    assert caught.value.kind.code == "port.unusable"


def test_sockets_are_kept_and_closed(listeners):
    first, second = free_port(), free_port()
    one = process("a", first, second)
    listeners.bind([one])
    before = listeners.descriptors(one)
    listeners.bind([one])
    assert listeners.descriptors(one) == before
    listeners.keep([process("a", second)])
    with socket.create_server(("127.0.0.1", first)):
        pass
    assert not any(os.get_inheritable(descriptor) for descriptor in listeners.descriptors(process("a", second)))


def test_a_port_that_nobody_has_has_no_holder():
    assert holder_of(free_port()) is None


def test_sockets_are_bound_in_the_network_of_their_process(listeners, network):
    inside = Process("a", "server", "a:b", listen=(("127.0.0.1", 5000),), network=network)
    listeners.bind([inside, process("b", free_port())])
    (descriptor,) = listeners.descriptors(inside)
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        assert listener.getsockname() == ("127.0.0.1", 5000)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", 5000)):
        pass  # it is not in this process's network


def test_no_program_inherits_a_socket_of_another_network(listeners, network):
    """If the root fork server inherited the socket, it would hold the port for ever."""
    inside = Process("a", "server", "a:b", listen=(("127.0.0.1", 5000),), network=network)
    listeners.bind([inside])
    assert [os.get_inheritable(descriptor) for descriptor in listeners.descriptors(inside)] == [False]


def test_two_networks_may_have_one_address(listeners, network):
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        listeners.bind([Process("a", "server", "a:b", listen=(("127.0.0.1", port),), network=network)])


def test_an_address_in_use_in_another_network_is_told(listeners, network):
    listeners.bind([Process("a", "server", "a:b", listen=(("127.0.0.1", 5000),), network=network)])
    with pytest.raises(AtollError) as caught:
        Listeners().bind([Process("b", "server", "a:b", listen=(("127.0.0.1", 5000),), network=network)])
    assert caught.value.kind.code == "port.in_use"


def test_a_network_that_is_gone_is_told(listeners):
    with pytest.raises(AtollError, match=r"a cannot enter its network: .*No such file"):
        listeners.bind([Process("a", "server", "a:b", listen=(("127.0.0.1", 5000),), network=Namespace("/proc/self/fd/99999"))])
