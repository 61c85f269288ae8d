"""The server side of an experiment: RPC servers like those of a service, in worker processes."""

from __future__ import annotations

from typing import Any

from atoll.bench.bus import rehearsal
from atoll.bench.bus.endpoints import Echo, Recorder
from atoll.bench.bus.transport import TOPIC, open_transport
from atoll.bench.bus.work import Threads


class Server:
    """An RPC server that listens to the experiment's topic."""

    def __init__(self) -> None:
        self._server: Any = None

    def listen(self, configuration: str, name: str, endpoint: Any) -> None:
        """Open the transport and listen to the topic.

        Args:
            configuration: see `open_transport`.
            name: the name of the server.
            endpoint: the object whose methods execute the messages.
        """
        from oslo_messaging import Target, get_rpc_server

        self._server = get_rpc_server(open_transport(configuration), Target(topic=TOPIC, server=name), [endpoint])
        self._server.start()

    def close(self) -> None:
        """Stop as a service does: accept no more messages, and finish the messages that were begun."""
        if self._server is not None:
            self._server.stop()
            self._server.wait()
            self._server = None


class EchoServer(Server):
    """An RPC server that answers calls with their payload and counts casts."""

    def __init__(self) -> None:
        super().__init__()
        self._endpoint = Echo()

    def rehearse(self, clients: int) -> None:
        """Serve calls and casts inside this process; see `rehearsal`. The rehearsal's server and its threads stay until `serve`.

        Args:
            clients: the number of clients that the server will have.
        """
        self._server, threads = rehearsal.serve()
        crowd = Threads(min(clients, threads))
        rehearsal.play(crowd, rehearsal.payload())
        crowd.end()
        rehearsal.tidy()

    def serve(self, configuration: str, name: str) -> None:
        """Open the transport and listen to the topic; see `Server.listen`."""
        self.close()
        self.listen(configuration, name, self._endpoint)

    def casts(self) -> tuple[int, float]:
        """Return the number of casts executed so far, and the `time.monotonic` of the last execution; 0 if none was executed."""
        moments = self._endpoint.casts
        return len(moments), moments[-1] if moments else 0.0


class RecordingServer(Server):
    """An RPC server that records the number of each cast that it executes."""

    def serve(self, configuration: str, name: str, record: str) -> None:
        """Open the transport and listen to the topic.

        Args:
            configuration: see `open_transport`.
            name: the name of the server.
            record: the path of the file for the numbers.
        """
        self.listen(configuration, name, Recorder(record))
