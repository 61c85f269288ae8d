"""Tokens of several sites, with Keystone's real formatter."""

import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from upstream import inside

HOUR_S = 3600

VALIDATE = """
    RSA = sys.argv[4]
    import json
    from pathlib import Path
    import jwt
    import keystone.conf
    from keystone import exception
    from keystone.common import jwt_utils
    from keystone.token.providers.jws import core
    from atoll.services.patches.keystone import tokens as keystone_tokens

    directory, tokens = Path(sys.argv[1]), json.loads(sys.argv[2])
    private, public = directory / "private", directory / "public"
    private.mkdir(); public.mkdir()
    for site in ("public", "lyon", "stranger"):
        keys = (private if site == "public" else directory) / "private.pem", (public if site != "stranger" else directory) / f"{site}.pem"
        jwt_utils.create_jws_keypair(*map(str, keys), algorithm="ES256")
        keys[0].rename(directory / f"{site}.key")
    (directory / "public.key").rename(private / "private.pem")
    (directory / "public.key").symlink_to(private / "private.pem")
    if sys.argv[3] == "ours":
        keystone_tokens.install()
        (public / "broken.pem").write_text("no key")
        (public / "binary.pem").write_bytes(bytes(range(256)))
        (public / "going.pem").symlink_to("gone")  # listed, and not there when it is opened
        (public / "rsa.pem").write_text(RSA)

    conf = keystone.conf.CONF
    keystone.conf.configure(conf)
    conf([])
    conf.set_override("jws_private_key_repository", str(private), "jwt_tokens")
    conf.set_override("jws_public_key_repository", str(public), "jwt_tokens")
    provider = core.Provider()

    def look(site, claims):
        if site == "none":
            token = jwt.encode(claims, None, algorithm="none")
        elif site == "secret":
            token = jwt.encode(claims, "x" * 32, algorithm="HS256")
        elif site == "garbage":
            token = "not.a.token"
        else:
            token = jwt.encode(claims, (directory / f"{site}.key").read_text(), algorithm="ES256")
        try:
            return provider.validate_token(token)[0]
        except Exception as error:
            return type(error).__name__

    tell([look(*each) for each in tokens])
"""


def rsa() -> str:
    """An RSA key, which cannot verify tokens."""
    key = generate_private_key(65537, 1024).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def claims(issued_in_s: float = 0, lasts_s: float = HOUR_S) -> dict[str, object]:
    issued = int(time.time() + issued_in_s)
    return {"sub": "ann", "iat": issued, "exp": int(issued + lasts_s), "openstack_methods": ["password"], "openstack_audit_ids": ["a"]}


@pytest.fixture
def validate(tmp_path):
    """A function that returns, for each token, the user or the name of the provider's exception."""

    def validate_(*tokens: tuple[str, dict[str, object]], formatter: str = "ours") -> list[str]:
        found: list[str] = inside(VALIDATE, str(tmp_path), json.dumps(tokens), formatter, rsa())
        return found

    return validate_


def test_tokens_of_all_sites_are_taken_whatever_their_clocks_say(validate):
    """Invalid files among the keys do not matter."""
    tokens = [(site, claims(ahead_s)) for site in ("public", "lyon") for ahead_s in (-60, 0, 5 * HOUR_S)]
    assert validate(*tokens) == ["ann"] * 6


def test_expiry_is_left_to_keystone_as_upstream_leaves_it(validate):
    """Keystone's manager checks it (keystone/token/provider.py), and allows services a few hours more."""
    assert validate(("lyon", claims(-2 * HOUR_S))) == ["ann"]


def test_nobody_elses_tokens_are_taken(validate):
    strangers = [(name, claims(ahead_s)) for name in ("stranger", "none", "secret", "garbage") for ahead_s in (0, 5 * HOUR_S)]
    assert validate(*strangers) == ["TokenNotFound"] * 8


def test_upstream_still_needs_it(validate):
    """If this fails, patches/keystone/tokens.py can go."""
    found = validate(("lyon", claims(5 * HOUR_S)), ("lyon", claims()), formatter="upstream's")
    assert found == ["ImmatureSignatureError", "ann"]
