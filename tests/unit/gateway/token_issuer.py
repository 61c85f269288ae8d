"""A site that issues tokens, for tests of gateways."""

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Issuer:
    """A site's signing key, which issues tokens as Keystone does."""

    def __init__(self, directory: Path, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def token(self, user: str, lifetime_s: float = 600, ahead_s: float = 0, **claims: str) -> str:
        now = int(time.time())
        return jwt.encode({"sub": user, "iat": int(now + ahead_s), "exp": int(now + lifetime_s), **claims}, self.key, algorithm="ES256")
