import pytest

from atoll.cloud import Cloud
from atoll.errors import AtollError
from atoll.site.bus import check_sockets, has_router, transport_url


def cloud(url: str, password_file: str | None = None) -> Cloud:
    rabbit = {"url": url} | ({"password_file": password_file} if password_file else {})
    return Cloud.model_validate(
        {"sites": [{"name": "a", "bus": "rabbit", "rabbit": rabbit}, {"name": "e", "kind": "compute", "control": "a"}]}
    )


@pytest.fixture
def password(tmp_path):
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text("a:b@c#d%\n")
    return path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rabbit://u@h/", "rabbit://u:a%3Ab%40c%23d%25@h/"),
        ("rabbit://u@h:5672", "rabbit://u:a%3Ab%40c%23d%25@h:5672"),
        ("rabbit://u@h:1,v@[::1]:2/a@b", "rabbit://u:a%3Ab%40c%23d%25@h:1,v:a%3Ab%40c%23d%25@[::1]:2/a@b"),
    ],
)
def test_password_is_put_into_the_url(password, url, expected):
    made = cloud(url, str(password))
    assert [transport_url(made, site) for site in made.sites] == [expected, expected]
    assert not has_router(made, made.sites[0])


def test_url_without_password_is_left_as_it_is():
    assert transport_url(cloud("rabbit://h:5672/x"), cloud("rabbit://h:5672/x").sites[0]) == "rabbit://h:5672/x"


@pytest.mark.parametrize("text", ["", "\n", "secret\nother\n", "sec/ret"])
def test_bad_password_is_refused_and_not_shown(password, text):
    password.write_text(text)
    made = cloud("rabbit://u@h/", str(password))
    with pytest.raises(AtollError, match="expected the password of RabbitMQ") as caught:
        transport_url(made, made.sites[0])
    assert caught.value.kind.code == "cloud.invalid"
    assert "sec" not in caught.value.message


def test_password_that_others_can_read_is_refused(password):
    password.chmod(0o640)
    made = cloud("rabbit://u@h/", str(password))
    with pytest.raises(AtollError, match="others can read the password") as caught:
        transport_url(made, made.sites[0])
    assert caught.value.hint == f"chmod 600 {password}"


@pytest.mark.parametrize("name", ["", "nosuch"])
def test_password_file_that_cannot_be_read(tmp_path, name):
    made = cloud("rabbit://u@h/", str(tmp_path / name))
    with pytest.raises(AtollError, match="expected the password of RabbitMQ"):
        transport_url(made, made.sites[0])


def test_password_that_is_not_text(password):
    password.write_bytes(b"\xff\xfe")
    made = cloud("rabbit://u@h/", str(password))
    with pytest.raises(AtollError, match="not text: expected the password of RabbitMQ"):
        transport_url(made, made.sites[0])


def test_longest_directory_that_sockets_can_be_in(tmp_path):
    longest = tmp_path / ("x" * (85 - len(str(tmp_path)) - 1))
    check_sockets(longest)
    with pytest.raises(AtollError, match="86 bytes, expected at most 85"):
        check_sockets(longest.with_name(longest.name + "x"))
