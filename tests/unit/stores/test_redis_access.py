"""Ways to reach Redis: TLS with certificates of both sides, a user of an access control list, and Sentinel with a failover."""

import datetime
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
import redis
import redis_server
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from shared_table import META, numbers, write

from atoll.stores.errors import RedisUnreachable
from atoll.stores.maintenance import verify
from atoll.stores.store import close_stores, open_store
from atoll.stores.url import parse

pytestmark = pytest.mark.skipif(redis_server.PROGRAM is None, reason="redis-server is missing: scripts/packages redis-server")


@pytest.fixture(autouse=True)
def closed():
    yield
    close_stores()


def free_port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def url(address, tmp_path, *more, scheme="redis"):
    parameters = [f"replica={tmp_path}/x.db", "log=nova", "cloud=demo", "site=paris", *more]
    return f"{scheme}://{address}/0?{'&'.join(parameters)}"


def certificate(directory, name, issuer=None):
    """Write a certificate and its key; without an issuer it is an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer[0] if issuer else subject, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(hours=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    signer = (issuer[1] if issuer else key).public_key()
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    unused = dict.fromkeys(("content_commitment", "data_encipherment", "encipher_only", "decipher_only", "key_agreement"), False)
    usage = x509.KeyUsage(digital_signature=True, key_encipherment=False, key_cert_sign=issuer is None, crl_sign=issuer is None, **unused)
    builder = builder.add_extension(usage, critical=True)
    done = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / f"{name}.pem").write_bytes(done.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return subject, key


def test_tls(tmp_path):
    authority = certificate(tmp_path, "ca")
    certificate(tmp_path, "server", authority)
    certificate(tmp_path, "client", authority)
    certificate(tmp_path, "other")
    port = free_port()
    files = {"tls-ca-cert-file": "ca.pem", "tls-cert-file": "server.pem", "tls-key-file": "server.key"}
    options = [word for name, file in files.items() for word in (f"--{name}", str(tmp_path / file))]
    with redis_server.running(tmp_path, "--tls-port", str(port), *options):
        ours = [f"ca={tmp_path}/ca.pem", f"cert={tmp_path}/client.pem", f"key={tmp_path}/client.key"]
        engine = sa.create_engine(url(f"localhost:{port}", tmp_path, *ours, scheme="rediss"))
        META.create_all(engine)
        write(engine, 1)
        assert numbers(engine) == [1]
        engine.dispose()
        close_stores()
        theirs = [f"ca={tmp_path}/other.pem", *ours[1:]]
        with pytest.raises(sa.exc.OperationalError, match=r"can't be reached: .*certificate verify failed"):
            write(sa.create_engine(url(f"localhost:{port}", tmp_path, *theirs, scheme="rediss")), 2)


def test_a_user_with_rights_on_one_log(tmp_path):
    port = free_port()
    with redis_server.running(tmp_path, "--port", str(port), "--bind", "127.0.0.1") as server:
        rights = ["~{nova}:*", "+@read", "+@write", "+@scripting", "+@connection", "+info", "+config|get", "+wait"]
        server.client().acl_setuser("paris", enabled=True, passwords=["+secret"], reset=True)
        server.client().execute_command("ACL", "SETUSER", "paris", *rights)
        engine = sa.create_engine(url(f"paris:secret@127.0.0.1:{port}", tmp_path))
        META.create_all(engine)
        write(engine, 1)
        assert numbers(engine) == [1]
        other = url(f"paris:secret@127.0.0.1:{port}", tmp_path).replace("log=nova", "log=glance").replace("x.db", "y.db")
        with pytest.raises(sa.exc.OperationalError, match="Redis refuses") as refused:
            META.create_all(sa.create_engine(other))
        assert "\n" not in str(refused.value.orig)
        assert server.client().keys("{glance}*") == []
        engine.dispose()


@contextmanager
def sentinel(directory, master):
    port = free_port()
    directory.mkdir()
    configuration = directory / "sentinel.conf"
    lines = [f"port {port}", "bind 127.0.0.1", f"dir {directory}", f"sentinel monitor main 127.0.0.1 {master} 1"]
    lines += ["sentinel down-after-milliseconds main 300", "sentinel failover-timeout main 2000"]
    configuration.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen([redis_server.PROGRAM, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def replicated(stack, tmp_path):
    """Start a master and its replica, and return the ports and the servers of both."""
    ports, servers = [free_port(), free_port()], []
    for place, port in enumerate(ports):
        (tmp_path / str(place)).mkdir()
        options = ["--port", str(port), "--bind", "127.0.0.1"] + (["--replicaof", "127.0.0.1", str(ports[0])] if place else [])
        servers.append(stack.enter_context(redis_server.running(tmp_path / str(place), *options)))
    return ports, servers


def test_a_failover_by_sentinel(tmp_path):
    with ExitStack() as stack:
        ports, servers = replicated(stack, tmp_path)
        watcher = stack.enter_context(sentinel(tmp_path / "sentinel", ports[0]))
        client = redis.Redis(port=watcher)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with suppress(redis.RedisError):
                if client.sentinel_slaves("main") and servers[1].client().info("replication")["master_link_status"] == "up":
                    break
            time.sleep(0.05)
        engine = sa.create_engine(url(f"127.0.0.1:{watcher}", tmp_path, "service=main", scheme="redis+sentinel"))
        META.create_all(engine)
        write(engine, 1)
        while servers[1].client().xlen("{nova}:log") < 2:
            time.sleep(0.01)
        servers[0].kill()
        write(engine, 2)  # waits until a new master is there
        assert numbers(engine) == [1, 2]
        assert servers[1].client().xlen("{nova}:log") == 3
        assert verify(open_store(parse(engine.url))) == []
        engine.dispose()


@pytest.fixture
def pair(tmp_path):
    """A master and its replica, which a test may stop."""
    with ExitStack() as stack:
        ports, servers = replicated(stack, tmp_path)
        until = time.monotonic() + 30
        while servers[0].client().info("replication").get("slave0", {}).get("state") != "online" and time.monotonic() < until:
            time.sleep(0.05)
        yield ports[0], servers[1].process
        servers[1].process.send_signal(signal.SIGCONT)


def test_a_resent_commit_waits_for_a_redis_replica_on_a_new_connection(tmp_path, pair):
    """In Valkey and Redis 7.2, WAIT counts from the connection's own last write, and a connection that finds the commit had none."""
    port, replica = pair
    engine = sa.create_engine(url(f"127.0.0.1:{port}", tmp_path, "wait=1", "timeout=1.5"))
    META.create_all(engine)
    log = open_store(parse(engine.url)).log
    replica.send_signal(signal.SIGSTOP)
    log._run_digest = reconnecting(log._run_digest, log._client)
    with pytest.raises(sa.exc.OperationalError, match="whether the transaction is in the log is unknown"):
        write(engine, 1)
    engine.dispose()


def reconnecting(run, client):
    """Return a function that runs a script on a new connection each time, as after an error of the network."""

    def wrapped(*arguments):
        client.connection_pool.disconnect(inuse_connections=False)
        return run(*arguments)

    return wrapped


def test_entries_that_no_redis_replica_has_confirmed_are_not_applied(tmp_path, pair):
    """A master that another server has replaced may still hold them for a while, and they are lost when it learns of this."""
    port, replica = pair
    paris = sa.create_engine(url(f"127.0.0.1:{port}", tmp_path, "wait=1", "timeout=3"))
    lyon = sa.create_engine(url(f"127.0.0.1:{port}", tmp_path).replace("x.db", "lyon.db").replace("site=paris", "site=lyon"))
    META.create_all(paris)
    write(paris, 1)
    open_store(parse(lyon.url)).catch_up()
    replica.send_signal(signal.SIGSTOP)
    write(lyon, 2)
    with pytest.raises(RedisUnreachable, match="0 of 1 Redis replicas have confirmed"):
        open_store(parse(paris.url)).catch_up()
    assert numbers(paris) == [1]
    paris.dispose()
    close_stores()
    assert numbers(paris) == [1], "a site that starts must read its replica"
    replica.send_signal(signal.SIGCONT)
    write(paris, 3)
    assert sorted(numbers(paris)) == [1, 2, 3]
    paris.dispose()
    lyon.dispose()
