import base64
import http.server
import json
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.errors import AtollError
from atoll.mesh.admission import PATH, Desk, Invitations, Token, join
from atoll.mesh.certificates import authority
from atoll.mesh.members import Card
from atoll.mesh.signing import Signer

PORTS = {"public_port": 8080, "peer_port": 8443, "mesh_port": 7448}
HOUR_S = 3600.0


class Paris:
    """A member that invites others."""

    def __init__(self, directory, cloud="unit") -> None:
        self.now_ms = 1_000_000
        self.directory = directory
        self.authority = authority(directory / "ca", cloud)
        self.authority.certify(directory / "tls", "paris", "127.0.0.1")
        self.own = Card("paris", "127.0.0.1", **PORTS, certificate=(directory / "tls" / "cert.pem").read_text())
        self.cards = {"paris": self.own}
        self.open()

    def open(self, sign=True, admit=None) -> None:
        self.invitations = Invitations(self.directory / "invitations.db", lambda: self.now_ms)
        self.desk = Desk(
            cloud="unit",
            own=self.own,
            authority=(self.directory / "tls" / "ca.pem").read_text(),
            signer=Signer((self.directory / "tls" / "key.pem").read_bytes()),
            invitations=self.invitations,
            known=lambda: self.cards,
            admit=admit or (lambda card: self.cards.update({card.name: card})),
            sign=self.authority.sign_request if sign else None,
        )

    def join(self, text, post=None):
        token = Token.parse(text)
        return join(token, "127.0.0.2", PORTS, "", post or (lambda _host, _port, body: self.post(body)))

    def post(self, body):
        self.body = json.loads(json.dumps(body))
        self.answer = json.loads(json.dumps(self.desk.redeem(self.body)))
        return self.answer


@pytest.fixture
def paris(tmp_path):
    made = Paris(tmp_path / "one")
    yield made
    made.invitations.close()


def refused(call, *arguments, code="join.refused") -> str:
    with pytest.raises(AtollError) as caught:
        call(*arguments)
    assert caught.value.kind.code == code
    return caught.value.message


def test_join(paris):
    joined = paris.join(paris.desk.invite("nice", HOUR_S))
    assert joined.cloud == "unit"
    assert {card.name for card in joined.members} == {"paris", "nice"}
    assert paris.cards["nice"].certificate == joined.certificate
    assert paris.cards["nice"].host == "127.0.0.2"
    assert joined.authority == (paris.directory / "tls" / "ca.pem").read_text()


def test_nothing_of_the_secret_is_kept_or_sent(paris):
    text = paris.desk.invite("nice", HOUR_S)
    paris.join(text)
    secret = Token.parse(text).secret
    said = json.dumps([paris.body, paris.answer]).encode()
    for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
        assert form not in said
        assert form not in (paris.directory / "invitations.db").read_bytes()
    assert base64.b64encode(secret).decode() not in repr(Token.parse(text))


def test_a_token_serves_once(paris):
    text = paris.desk.invite("nice", HOUR_S)
    paris.join(text)
    del paris.cards["nice"]
    assert "used already" in refused(paris.join, text)


def test_a_request_that_is_repeated(paris):
    paris.join(paris.desk.invite("nice", HOUR_S))
    assert "used already" in refused(paris.desk.redeem, paris.body)


def test_a_used_token_stays_used_after_a_restart(paris):
    text = paris.desk.invite("nice", HOUR_S)
    paris.join(text)
    del paris.cards["nice"]
    paris.invitations.close()
    paris.open()
    assert "used already" in refused(paris.join, text)


def test_a_token_outlives_a_restart(paris):
    text = paris.desk.invite("nice", HOUR_S)
    paris.invitations.close()
    paris.open()
    assert paris.join(text).certificate


def test_a_token_expires(paris):
    text = paris.desk.invite("nice", HOUR_S)
    paris.now_ms += 3600 * 1000
    assert "expired" in refused(paris.join, text)
    assert set(paris.cards) == {"paris"}


def test_a_wrong_secret(paris):
    token = Token.parse(paris.desk.invite("nice", HOUR_S))
    other = Token(token.name, token.host, token.port, token.authority, token.id, b"x" * 32)
    assert "was not made with the token" in refused(paris.join, other.dump())
    assert paris.join(token.dump()).certificate


def test_a_token_that_was_never_given_out(paris):
    token = Token.parse(paris.desk.invite("nice", HOUR_S))
    other = Token(token.name, token.host, token.port, token.authority, "feed", token.secret)
    assert "no such token" in refused(paris.join, other.dump())


@pytest.mark.parametrize("field", ["request", "card", "id", "proof"])
def test_a_request_that_was_changed_on_its_way(paris, field):
    other = Paris(paris.directory.parent / "other")
    other.join(other.desk.invite("nice", HOUR_S))
    text = paris.desk.invite("nice", HOUR_S)
    changed = {**other.body[field], "host": "127.0.0.9"} if field == "card" else other.body[field]
    refused(paris.join, text, lambda _host, _port, body: paris.post({**body, field: changed}))
    assert set(paris.cards) == {"paris"}
    assert paris.join(text).certificate
    other.invitations.close()


def test_a_body_of_a_thousand_brackets(paris):
    card: list = []
    for _ in range(100_000):
        card = [card]
    assert "malformed" in refused(paris.desk.redeem, {"id": "x", "request": "", "proof": "", "card": card})


def test_an_answer_of_somebody_else(paris):
    """He who sits in between has an authority of his own."""
    other = Paris(paris.directory.parent / "other")
    answers = []
    other.join(other.desk.invite("nice", HOUR_S), lambda _host, _port, body: answers.append(other.post(body)) or answers[0])
    message = refused(paris.join, paris.desk.invite("nice", HOUR_S), lambda *_: answers[0])
    assert "is not the site that gave the token out" in message
    other.invitations.close()


@pytest.mark.parametrize("change", [{"certificate": ""}, {"members": []}, {"cloud": "other"}, {"by": "nice"}, {"signature": "AAAA"}])
def test_an_answer_that_was_changed_on_its_way(paris, change):
    text = paris.desk.invite("nice", HOUR_S)
    refused(paris.join, text, lambda _host, _port, body: {**paris.post(body), **change})


def test_a_name_serves_once(paris):
    paris.join(paris.desk.invite("nice", HOUR_S))
    assert "there is or was a site nice" in refused(paris.desk.invite, "nice", HOUR_S, code="mesh.refused")


def test_two_tokens_for_one_name(paris):
    texts = [paris.desk.invite("nice", HOUR_S) for _ in range(2)]
    paris.join(texts[0])
    assert "by now" in refused(paris.join, texts[1])


@pytest.mark.parametrize("name", ["", "../x", "Nice", "a" * 40, "nice-", "all "])
def test_names_that_no_site_can_have(paris, name):
    refused(paris.desk.invite, name, HOUR_S, code="mesh.refused")


def test_a_site_without_the_authoritys_key(paris):
    paris.invitations.close()
    paris.open(sign=False)
    refused(paris.desk.invite, "nice", HOUR_S, code="mesh.refused")


@pytest.mark.parametrize(
    "card", [{"host": "example.org"}, {"public_port": 0}, {"token_key": "no key"}, {"shoe_size": 42}, {"mesh_port": "1"}]
)
def test_a_card_that_is_none_leaves_the_token_good(paris, card):
    text = paris.desk.invite("nice", HOUR_S)
    ports = {**PORTS, **{name: value for name, value in card.items() if name.endswith(("port", "size"))}}
    arguments = (Token.parse(text), card.get("host", "127.0.0.2"), ports, card.get("token_key", ""))
    refused(join, *arguments, lambda _host, _port, body: paris.post(body))
    assert set(paris.cards) == {"paris"}
    assert paris.join(text).certificate


def test_a_disk_that_is_full_leaves_the_token_good(paris):
    def fail(_card):
        raise AtollError("state.space", "full")

    text = paris.desk.invite("nice", HOUR_S)
    paris.invitations.close()
    paris.open(admit=fail)
    refused(paris.join, text, code="state.space")
    paris.invitations.close()
    paris.open()
    assert paris.join(text).certificate


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "request", "proof", "card", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def test_no_request_breaks_the_desk(paris):
    @given(json_values)
    def check(body):
        refused(paris.desk.redeem, body)

    check()


@given(st.text(max_size=80))
def test_any_text_is_no_token(text):
    for form in (text, "atoll1." + text):
        refused(Token.parse, form)


def test_a_token_with_a_line_end_is_one(paris):
    text = paris.desk.invite("nice", HOUR_S)
    assert Token.parse(text + "\n") == Token.parse(text)


def test_half_a_token(paris):
    text = paris.desk.invite("nice", HOUR_S)
    refused(Token.parse, text[: len(text) // 2])


def test_over_https(paris):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == PATH
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                status, answer = 200, paris.desk.redeem(body)
            except AtollError as error:
                status, answer = error.kind.status, {"code": error.kind.code, "message": error.message}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paris.directory / "tls" / "cert.pem", paris.directory / "tls" / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    token = Token.parse(paris.desk.invite("nice", HOUR_S))
    here = Token(token.name, "127.0.0.1", server.server_port, token.authority, token.id, token.secret)
    with ThreadPoolExecutor() as threads:
        joining = threads.submit(join, here, "127.0.0.2", PORTS, "")
        server.handle_request()
        assert joining.result().certificate
        again = threads.submit(join, here, "127.0.0.2", PORTS, "")
        server.handle_request()
        assert "used already" in refused(again.result)
    server.server_close()
    assert "does not answer" in refused(join, here, "127.0.0.2", PORTS, "", code="join.unreachable")


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_invitations_survive_a_loss_of_power_unless_the_site_is_relaxed(tmp_path, durable, synchronous):
    invitations = Invitations(tmp_path / "invitations.db", lambda: 0, durable=durable)
    assert invitations._database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert invitations._database.execute("PRAGMA synchronous").fetchone()[0] == synchronous
    invitations.close()
