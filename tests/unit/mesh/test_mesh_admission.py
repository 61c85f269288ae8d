import base64
import http.server
import json
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inviting import PORTS, Paris

from atoll.errors import AtollError
from atoll.mesh.admission import PATH, Application, Invitations, Token, join

HOUR_S = 3600.0


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
    joined = paris.join(paris.service.invite("nice", HOUR_S))
    assert joined.cloud == "unit"
    assert {card.name for card in joined.members} == {"paris", "nice"}
    assert paris.cards["nice"].certificate == joined.certificate
    assert paris.cards["nice"].host == "127.0.0.2"
    assert joined.authority == (paris.directory / "tls" / "ca.pem").read_text()


def test_nothing_of_the_secret_is_kept_or_sent(paris):
    text = paris.service.invite("nice", HOUR_S)
    paris.join(text)
    secret = Token.parse(text).secret
    said = json.dumps([paris.body, paris.answer]).encode()
    for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
        assert form not in said
        assert form not in (paris.directory / "invitations.db").read_bytes()
    assert base64.b64encode(secret).decode() not in repr(Token.parse(text))


def test_a_token_serves_once(paris):
    text = paris.service.invite("nice", HOUR_S)
    paris.join(text)
    del paris.cards["nice"]
    assert "already used" in refused(paris.join, text)


def test_a_request_whose_answer_was_lost_is_answered_again(paris):
    """The answer is for the holder of the key alone: nobody else can use the certificate."""
    text = paris.service.invite("nice", HOUR_S)
    application = Application.make(Token.parse(text), "127.0.0.2", PORTS, "")
    first = paris.join(text, application=application)
    paris.restart(admit=lambda card: pytest.fail(f"{card.name} is a member already"))
    paris.now_ms += 2 * 3600 * 1000  # the member was admitted in time
    assert paris.join(text, application=application) == first
    assert "already used" in refused(paris.join, text)


def test_a_site_that_was_revoked_gets_no_answer_again(paris):
    """The answer lists the members, and would let the site be built although it is not a member."""
    text = paris.service.invite("nice", HOUR_S)
    application = Application.make(Token.parse(text), "127.0.0.2", PORTS, "")
    paris.join(text, application=application)
    paris.former.add("nice")
    assert "revoked" in refused(lambda: paris.join(text, application=application))


def test_a_lost_answer_is_given_again_days_later(paris):
    text = paris.service.invite("nice", HOUR_S)
    application = Application.make(Token.parse(text), "127.0.0.2", PORTS, "")
    first = paris.join(text, application=application)
    paris.now_ms += 3 * 24 * 3600 * 1000
    paris.service.invite("lyon", HOUR_S)
    assert paris.join(text, application=application) == first


@pytest.mark.parametrize("signature", ["?!", "", 5, None, "AAAA"])
def test_an_answer_without_a_signature_is_not_called_refused(paris, signature):
    """Anybody may have sent it, and the site may be a member."""

    def post(_host, _port, body):
        return {**paris.post(body), "signature": signature}

    refused(paris.join, paris.service.invite("nice", HOUR_S), post, code="join.unanswered")


class DeathError(BaseException):
    """Ends the member at once, as SIGKILL would."""


def die(*_arguments):
    raise DeathError


def at_once(paris, card):
    paris.cards[card.name] = card
    die()


@pytest.mark.parametrize(
    "death",
    [
        pytest.param(lambda _paris: {"sign": die}, id="before the certificate"),
        pytest.param(lambda _paris: {"admit": die}, id="before the admission"),
        pytest.param(lambda paris: {"admit": lambda card: at_once(paris, card)}, id="after the admission"),
    ],
)
def test_a_member_that_dies_admits_the_site_by_the_same_request(paris, death):
    text = paris.service.invite("nice", HOUR_S)
    application = Application.make(Token.parse(text), "127.0.0.2", PORTS, "")
    paris.restart(**death(paris))
    with pytest.raises(DeathError):
        paris.join(text, application=application)
    paris.restart()
    assert "already used" in refused(paris.join, text)
    joined = paris.join(text, application=Application.parse(json.loads(json.dumps(application.dump()))))
    assert joined.key == application.key
    assert paris.cards["nice"].certificate == joined.certificate
    assert set(paris.cards) == {"paris", "nice"}


def test_a_request_of_a_member_that_died_before_the_admission_expires_with_the_token(paris):
    text = paris.service.invite("nice", HOUR_S)
    application = Application.make(Token.parse(text), "127.0.0.2", PORTS, "")
    paris.restart(admit=die)
    with pytest.raises(DeathError):
        paris.join(text, application=application)
    paris.restart()
    paris.now_ms += 3600 * 1000
    assert "expired" in refused(lambda: paris.join(text, application=application))
    assert set(paris.cards) == {"paris"}


def test_a_repeated_request_for_a_name_that_another_site_has_is_refused(paris):
    texts = [paris.service.invite("nice", HOUR_S) for _ in range(2)]
    application = Application.make(Token.parse(texts[0]), "127.0.0.2", PORTS, "")
    paris.restart(admit=die)
    with pytest.raises(DeathError):
        paris.join(texts[0], application=application)
    paris.restart()
    paris.join(texts[1])
    assert "exists already" in refused(lambda: paris.join(texts[0], application=application))


def test_an_earlier_versions_invitations_stay_good(paris):
    text = paris.service.invite("nice", HOUR_S)
    paris.invitations._database.execute("ALTER TABLE invitation DROP COLUMN request")
    paris.restart()
    assert paris.join(text).certificate


@pytest.mark.parametrize("text", [None, [], {}, {"key": "k", "body": []}, {"key": 1, "body": {}}])
def test_text_that_is_not_an_application_is_refused(text):
    with pytest.raises(ValueError, match="application"):
        Application.parse(text)


def test_a_used_token_stays_used_after_a_restart(paris):
    text = paris.service.invite("nice", HOUR_S)
    paris.join(text)
    del paris.cards["nice"]
    paris.invitations.close()
    paris.open()
    assert "already used" in refused(paris.join, text)


def test_a_token_outlives_a_restart(paris):
    text = paris.service.invite("nice", HOUR_S)
    paris.invitations.close()
    paris.open()
    assert paris.join(text).certificate


def test_a_token_expires(paris):
    text = paris.service.invite("nice", HOUR_S)
    paris.now_ms += 3600 * 1000
    assert "expired" in refused(paris.join, text)
    assert set(paris.cards) == {"paris"}


def test_a_wrong_secret(paris):
    token = Token.parse(paris.service.invite("nice", HOUR_S))
    other = Token(token.name, token.host, token.port, token.authority, token.id, b"x" * 32)
    assert "was not signed with the token" in refused(paris.join, other.dump())
    assert paris.join(token.dump()).certificate


def test_a_token_that_was_never_given_out(paris):
    token = Token.parse(paris.service.invite("nice", HOUR_S))
    other = Token(token.name, token.host, token.port, token.authority, "feed", token.secret)
    assert "no such token" in refused(paris.join, other.dump())


@pytest.mark.parametrize("field", ["request", "card", "id", "proof"])
def test_a_request_that_was_changed_on_its_way(paris, field):
    other = Paris(paris.directory.parent / "other")
    other.join(other.service.invite("nice", HOUR_S))
    text = paris.service.invite("nice", HOUR_S)
    changed = {**other.body[field], "host": "127.0.0.9"} if field == "card" else other.body[field]
    refused(paris.join, text, lambda _host, _port, body: paris.post({**body, field: changed}))
    assert set(paris.cards) == {"paris"}
    assert paris.join(text).certificate
    other.invitations.close()


def test_a_body_of_a_thousand_brackets(paris):
    card: list = []
    for _ in range(100_000):
        card = [card]
    assert "malformed" in refused(paris.service.redeem, {"id": "x", "request": "", "proof": "", "card": card})


def test_an_answer_of_somebody_else(paris):
    """An attacker in between has an authority of its own."""
    other = Paris(paris.directory.parent / "other")
    answers = []
    other.join(other.service.invite("nice", HOUR_S), lambda _host, _port, body: answers.append(other.post(body)) or answers[0])
    message = refused(paris.join, paris.service.invite("nice", HOUR_S), lambda *_: answers[0], code="join.unanswered")
    assert "is not the one that issued the token" in message
    other.invitations.close()


@pytest.mark.parametrize("change", [{"certificate": ""}, {"members": []}, {"cloud": "other"}, {"by": "nice"}, {"signature": "AAAA"}])
def test_an_answer_that_was_changed_on_its_way(paris, change):
    text = paris.service.invite("nice", HOUR_S)
    refused(paris.join, text, lambda _host, _port, body: {**paris.post(body), **change}, code="join.unanswered")


def test_a_name_serves_once(paris):
    paris.join(paris.service.invite("nice", HOUR_S))
    assert "a site nice exists or existed" in refused(paris.service.invite, "nice", HOUR_S, code="mesh.refused")


def test_two_tokens_for_one_name(paris):
    texts = [paris.service.invite("nice", HOUR_S) for _ in range(2)]
    paris.join(texts[0])
    assert "exists already" in refused(paris.join, texts[1])


@pytest.mark.parametrize("name", ["", "../x", "Nice", "a" * 40, "nice-", "all "])
def test_names_that_no_site_can_have(paris, name):
    refused(paris.service.invite, name, HOUR_S, code="mesh.refused")


def test_a_site_without_the_authoritys_key(paris):
    paris.invitations.close()
    paris.open(sign=False)
    refused(paris.service.invite, "nice", HOUR_S, code="mesh.refused")


@pytest.mark.parametrize(
    "card", [{"host": "example.org"}, {"public_port": 0}, {"token_key": "no key"}, {"shoe_size": 42}, {"mesh_port": "1"}]
)
def test_a_card_that_is_none_leaves_the_token_good(paris, card):
    text = paris.service.invite("nice", HOUR_S)
    ports = {**PORTS, **{name: value for name, value in card.items() if name.endswith(("port", "size"))}}
    token = Token.parse(text)
    application = Application.make(token, card.get("host", "127.0.0.2"), ports, card.get("token_key", ""))
    refused(join, token, application, lambda _host, _port, body: paris.post(body))
    assert set(paris.cards) == {"paris"}
    assert paris.join(text).certificate


def test_a_disk_that_is_full_leaves_the_token_good(paris):
    def fail(_card):
        raise AtollError("state.space", "full")

    text = paris.service.invite("nice", HOUR_S)
    paris.restart(admit=fail)
    refused(paris.join, text, code="state.space")
    paris.restart()
    assert paris.join(text).certificate


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "request", "proof", "card", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def test_no_request_breaks_the_service(paris):
    @given(json_values)
    def check(body):
        refused(paris.service.redeem, body)

    check()


@given(st.text(max_size=80))
def test_arbitrary_text_is_not_a_token(text):
    for form in (text, "atoll1." + text):
        refused(Token.parse, form)


def test_a_token_with_a_line_end_is_one(paris):
    text = paris.service.invite("nice", HOUR_S)
    assert Token.parse(text + "\n") == Token.parse(text)


def test_half_a_token(paris):
    text = paris.service.invite("nice", HOUR_S)
    refused(Token.parse, text[: len(text) // 2])


class Member(http.server.HTTPServer):
    """The server of a member's gateway; `fail` says how it fails."""

    def __init__(self, paris):
        super().__init__(("127.0.0.1", 0), Handler)
        self.paris, self.fail = paris, ""


class Handler(http.server.BaseHTTPRequestHandler):
    """The requests of the member's gateway."""

    server: Member

    def do_POST(self):
        assert self.path == PATH
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fail = self.server.fail
        try:
            status, answer = 200, self.server.paris.service.redeem(body)
        except AtollError as error:
            status, answer = error.kind.status, {"code": error.kind.code, "message": error.message}
        if fail == "no answer":
            return
        self.send_response(500 if fail == "status" else status)
        self.end_headers()
        self.wfile.write(b"<html>" if fail == "no gateway" else json.dumps(answer).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server(paris):
    made = Member(paris)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paris.directory / "tls" / "cert.pem", paris.directory / "tls" / "key.pem")
    made.socket = context.wrap_socket(made.socket, server_side=True)
    yield made
    made.server_close()


def at(server):
    token = Token.parse(server.paris.service.invite("nice", HOUR_S))
    return Token(token.name, "127.0.0.1", server.server_port, token.authority, token.id, token.secret)


def asked(server, token, application):
    with ThreadPoolExecutor() as threads:
        joining = threads.submit(join, token, application)
        server.handle_request()
        return joining.result()


def test_over_https(server):
    token = at(server)
    assert asked(server, token, Application.make(token, "127.0.0.2", PORTS, "")).certificate
    assert "already used" in refused(asked, server, token, Application.make(token, "127.0.0.2", PORTS, ""))
    server.server_close()
    assert "does not answer" in refused(join, token, Application.make(token, "127.0.0.2", PORTS, ""), code="join.unreachable")


@pytest.mark.parametrize("fail", ["no answer", "status", "no gateway"])
def test_a_request_without_a_clear_answer_is_not_called_refused(server, fail):
    """The site may have become a member: the same request, made again, tells."""
    token = at(server)
    application = Application.make(token, "127.0.0.2", PORTS, "")
    server.fail = fail
    refused(asked, server, token, application, code="join.unanswered")
    server.fail = ""
    assert asked(server, token, application).certificate


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_invitations_survive_a_loss_of_power_unless_the_site_is_relaxed(tmp_path, durable, synchronous):
    invitations = Invitations(tmp_path / "invitations.db", lambda: 0, durable=durable)
    assert invitations._database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert invitations._database.execute("PRAGMA synchronous").fetchone()[0] == synchronous
    invitations.close()
