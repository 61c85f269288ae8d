"""The server's side of an experiment: RPC servers as a service has them, inside worker processes."""

from __future__ import annotations

from typing import Any

from atoll.bench.bus import rehearsal
from atoll.bench.bus.endpoints import Echo, Recorder
from atoll.bench.bus.transport import TOPIC, open_transport
from atoll.bench.bus.work import Threads


class Server:
    """An RPC server that listens to the topic."""

    def __init__(self) -> None:
        self._server: Any = None

    def listen(self, configuration: str, name: str, endpoint: Any) -> None:  # noqa: ANN401, RUF100
        """Open the transport, and listen.

        Args:
            configuration: see `open_transport`.
            name: of the server.
            endpoint: executes the messages.
        """
        from oslo_messaging import Target, get_rpc_server  # noqa: PLC0415 - see `open_transport`

        self._server = get_rpc_server(open_transport(configuration), Target(topic=TOPIC, server=name), [endpoint])
        self._server.start()

    def close(self) -> None:
        """Stop as a service does: take nothing more, finish what was begun."""
        if self._server is not None:
            self._server.stop()
            self._server.wait()
            self._server = None


class EchoServer(Server):
    """Answers calls with what they brought, and counts casts."""

    def __init__(self) -> None:
        super().__init__()
        self._endpoint = Echo()

    def rehearse(self, clients: int) -> None:
        """Do the same without a transport; see `rehearsal`. The server for it stays until `serve`, and so do its threads.

        Args:
            clients: how many the server will have.
        """
        self._server, threads = rehearsal.serve()
        crowd = Threads(min(clients, threads))
        rehearsal.play(crowd, rehearsal.payload())
        crowd.end()
        rehearsal.tidy()

    def serve(self, configuration: str, name: str) -> None:
        """Open the transport, and listen to the topic; see `Server.listen`."""
        self.close()
        self.listen(configuration, name, self._endpoint)

    def casts(self) -> tuple[int, float]:
        """How many casts were executed so far, and when the last one was (`time.monotonic`; 0 if there was none)."""
        moments = self._endpoint.casts
        return len(moments), moments[-1] if moments else 0.0


class RecordingServer(Server):
    """Writes down the number of each cast that it executes."""

    def serve(self, configuration: str, name: str, record: str) -> None:
        """Open the transport, and listen to the topic.

        Args:
            configuration: see `open_transport`.
            name: of the server.
            record: the file for the numbers.
        """
        self.listen(configuration, name, Recorder(record))
