"""A member that admits sites by tokens, without a network, and can be restarted."""

import json

from atoll.mesh.admission import Application, Invitations, InvitationService, Token, join
from atoll.mesh.certificates import authority
from atoll.mesh.members import Card
from atoll.mesh.signing import Signer

PORTS = {"public_port": 8080, "peer_port": 8443, "mesh_port": 7448}


class Paris:
    """A member that invites other sites."""

    def __init__(self, directory, cloud="unit") -> None:
        self.now_ms = 1_000_000
        self.directory = directory
        self.authority = authority(directory / "ca", cloud)
        self.authority.certify(directory / "tls", "paris", "127.0.0.1")
        self.own = Card("paris", "127.0.0.1", **PORTS, certificate=(directory / "tls" / "cert.pem").read_text())
        self.cards = {"paris": self.own}
        self.former: set[str] = set()
        self.open()

    def open(self, sign=True, admit=None) -> None:
        self.invitations = Invitations(self.directory / "invitations.db", lambda: self.now_ms)
        self.service = InvitationService(
            cloud="unit",
            own=self.own,
            authority=(self.directory / "tls" / "ca.pem").read_text(),
            signer=Signer((self.directory / "tls" / "key.pem").read_bytes()),
            invitations=self.invitations,
            known=lambda: self.cards,
            is_active=lambda name: name not in self.former,
            admit=admit or (lambda card: self.cards.update({card.name: card})),
            sign=(sign if callable(sign) else self.authority.sign_request) if sign else None,
        )

    def join(self, text, post=None, application=None):
        token = Token.parse(text)
        application = application or Application.make(token, "127.0.0.2", PORTS, "")
        return join(token, application, post or (lambda _host, _port, body: self.post(body)))

    def restart(self, **changes) -> None:
        self.invitations.close()
        self.open(**changes)

    def post(self, body):
        self.body = json.loads(json.dumps(body))
        self.answer = json.loads(json.dumps(self.service.redeem(self.body)))
        return self.answer
