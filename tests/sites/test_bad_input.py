"""Bad input on the command line: one clear line, exit code 1, and no change."""

import json
import os
import socket

import psutil
import pytest
from deployment import kill, snapshot, until


@pytest.fixture
def fresh(make):
    """Return a cloud that was never up."""
    cloud = make()
    yield cloud
    assert not cloud.root.exists(), "the refused command must create no files"


def test_yaml_that_does_not_validate(fresh):
    file = fresh.root.with_suffix(".yaml")
    file.write_text("sites:\n- name: paris\n- name: lyon\n  port: here\n")
    assert fresh.refused("up", file).startswith(f"{file}:4: sites[1].port: expected an integer from 1024 to 65520, got the text 'here'")


def test_yaml_that_is_none(fresh):
    file = fresh.root.with_suffix(".yaml")
    file.write_text("sites:\n- name: [paris\n- x")
    assert fresh.refused("up", file).startswith(f"{file}:3: ")


def test_file_that_is_missing(fresh):
    assert "no such file" in fresh.refused("up", "nosuch.yaml")


def test_port_in_use_names_its_holder(fresh, base_ports):
    port = next(base_ports)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port + 8))
        holder.listen()
        message = fresh.refused("up", fresh.file({"name": "paris", "port": port}))
    assert message.startswith(f"port {port + 8} of paris/placement is in use by pid {os.getpid()} ")


@pytest.mark.parametrize("arguments", [("down", "nowhere"), ("destroy", "--yes", "nowhere"), ("env", "nowhere"), ("logs", "nowhere"),
                                       ("status", "nowhere"), ("openstack", "--site", "nowhere", "server", "list")])  # fmt: skip
def test_unknown_site(paris, arguments):
    pids, files = paris.pids(), snapshot(paris.root / "sites" / "paris" / "etc")
    assert paris.refused(*arguments).startswith("no site is called nowhere: expected one of paris")
    assert (paris.pids(), snapshot(paris.root / "sites" / "paris" / "etc")) == (pids, files)


def test_bad_input_to_a_cloud_that_runs(paris):
    """A port of the new site is in use: the old site keeps running, and its description is unchanged."""
    pids, before = paris.pids(), (paris.root / "cloud.yaml").read_text()
    port = paris.settings().ports["identity"]
    file = paris.file({"name": "paris", "port": port}, {"name": "lyon", "port": port + 8})
    assert "is a port of paris too" in paris.refused("up", file)
    file = paris.file({"name": "lyon", "port": port})
    assert "leaves out paris" in paris.refused("up", file)
    assert (paris.pids(), (paris.root / "cloud.yaml").read_text()) == (pids, before)
    assert not (paris.root / "sites" / "lyon").exists()


def test_directory_of_another_version(make, base_ports):
    cloud = make()
    cloud.root.mkdir(mode=0o700)
    (cloud.root / "version").write_text(json.dumps({"atoll": "7.1"}))
    before = snapshot(cloud.root)
    message = cloud.refused("up", cloud.file({"name": "paris", "port": next(base_ports)}))
    assert message.startswith(f"{cloud.root} was written by atoll 7.1, and this is ")
    assert snapshot(cloud.root) == before
    assert cloud.atoll("destroy", "--yes").startswith("destroyed")


def test_killed_template_and_second_up(make, base_ports, keystone_only, tmp_path):
    """All processes die while a template is made; the next `up` starts again, and admits no second one meanwhile."""
    cloud = make(XDG_CACHE_HOME=str(tmp_path / "cache"))
    file = cloud.file({"name": "rome", "port": next(base_ports), "services": keystone_only})
    templates = tmp_path / "cache" / "atoll" / "templates"
    with cloud.start("up", file) as first:
        half = until(lambda: list(templates.glob("*/keystone.*.new")), "a template half made")
        processes = [psutil.Process(pid) for pid in cloud.pids().values()]
        kill(first.pid, *(process.pid for process in processes))
        first.communicate()
    assert half[0].exists()
    assert not list(templates.glob("*/keystone"))

    with cloud.start("up") as second:
        until(lambda: f"pid {second.pid}" in (cloud.root / "lock").read_text(), "the lock taken")
        message = cloud.refused("up")
        assert message.startswith(f"another command is changing the cloud in {cloud.root} (atoll up, pid {second.pid})")
        out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert out.startswith("up in ")
    assert [path.name for path in next(templates.iterdir()).iterdir()] == ["keystone"], "remainders of the killed job must be removed"
    assert cloud.api("rome").expect("identity", "GET", "/users")["users"]
