from configparser import ConfigParser

from atoll.bench.bus.transport import Transport, rabbit, zenoh


def written(transport: Transport, path) -> ConfigParser:
    transport.write(path)
    parsed = ConfigParser(interpolation=None)
    parsed.read_string(path.read_text())
    return parsed


def test_configuration_is_its_owners_alone(tmp_path):
    path = tmp_path / "transport.conf"
    parsed = written(rabbit("rabbit://openstack:se%cret@127.0.0.1:5672/"), path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert parsed["DEFAULT"]["transport_url"] == "rabbit://openstack:se%cret@127.0.0.1:5672/"
    assert parsed.sections() == []


def test_ours_keeps_its_sockets_in_the_experiments_directory(tmp_path):
    parsed = written(zenoh(tmp_path / "bus"), tmp_path / "transport.conf")
    assert parsed["DEFAULT"]["transport_url"] == "zenoh://"
    options = parsed["oslo_messaging_zenoh"]
    assert options["socket_dir"] == str(tmp_path / "bus/sockets")
    assert (tmp_path / "bus/sockets").stat().st_mode & 0o777 == 0o700
    assert "journal_dir" not in options
    assert options["durable"] == "false"


def test_journal(tmp_path):
    assert zenoh(tmp_path, journal=False).options["oslo_messaging_zenoh"]["journal_dir"] == ""
    assert zenoh(tmp_path, journal=True).options["oslo_messaging_zenoh"]["journal_dir"] == str(tmp_path / "journal")
    assert (tmp_path / "journal").is_dir()


def test_options_of_the_driver_exist():
    """A misspelt option would be ignored, and another configuration would be measured."""
    from atoll.bus import options

    known = {option.name for _group, listed in options.list_opts() for option in listed}
    assert {"socket_dir", "journal_dir"} <= known
