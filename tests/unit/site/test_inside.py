"""The environment of a program inside a site."""

import os
import subprocess
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.site import inside, wan
from atoll.site.inside import BASHRC, place, shell_command
from atoll.site.up import up

CLOUD = """
sites: [{name: paris}, {name: lyon}, {name: edge, kind: compute, control: paris}]
"""


@pytest.fixture
def found(state, cache, runtime, tmp_path, monkeypatch):
    file = tmp_path / "cloud.yaml"
    file.write_text(CLOUD)
    up(state, cache, file)
    monkeypatch.setattr(inside, "connect", runtime.connect)
    return lambda name: place(state, name)


def test_account_is_the_sites_and_nothing_of_another_cloud_is_left(found, state):
    made = found("lyon").environment(
        {"OS_CLOUD": "other", "OS_TOKEN": "x", "OS_COMPUTE_API_VERSION": "2.90", "EDITOR": "ed", "PATH": "/usr/bin"}
    )
    assert made["OS_AUTH_URL"] == "http://127.0.0.1:15011/identity/v3"
    assert (made["OS_CLIENT_CONFIG_FILE"], made["ATOLL_STATE"]) == (str(state.clouds_file), str(state.root))
    assert (made["ATOLL_SITE"], made["EDITOR"], made["OS_COMPUTE_API_VERSION"]) == ("lyon", "ed", "2.90")
    assert not made.keys() & {"OS_CLOUD", "OS_TOKEN"}
    assert made["PATH"].startswith("/usr/bin:")


def test_compute_site_has_the_account_of_its_control_site(found):
    made = found("edge").environment({})
    assert (made["ATOLL_SITE"], made["OS_AUTH_URL"]) == ("edge", "http://127.0.0.1:15001/identity/v3")


def test_no_proxy_stands_between_a_program_and_any_site(found):
    made = found("paris").environment({"no_proxy": "example.org"})
    assert (made["no_proxy"], made["NO_PROXY"]) == ("example.org,127.0.0.1", "127.0.0.1")


def test_program_that_is_missing(found, tmp_path):
    here = found("paris")
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    for program, why in (
        ("nosuchprogram", "it is not on the PATH"),
        ("/nowhere/x", "no such program"),
        (str(tmp_path / "text"), "exec format"),
    ):
        with pytest.raises(AtollError, match=why) as caught:
            here.replace([program], here.environment(os.environ))
        assert caught.value.kind.code == "command.not_found"


def test_cloud_that_is_down(found, runtime):
    runtime.alive = False
    with pytest.raises(AtollError, match="lyon is not running") as caught:
        found("lyon")
    assert caught.value.kind.code == "site.not_running"


def test_unknown_site(found):
    with pytest.raises(AtollError, match="no site is called rome"):
        found("rome")


def test_shell_is_the_users_own():
    assert shell_command({"SHELL": "/usr/bin/fish"}) == ["/usr/bin/fish"]
    assert shell_command({"SHELL": "/bin/bash"}) == ["/bin/bash", "--rcfile", str(BASHRC)]
    assert shell_command({"SHELL": "/bin/bash"}, "ls | wc") == ["/bin/bash", "-c", "ls | wc"]
    assert Path(shell_command({})[0]).name


def test_prompt_names_the_site_after_the_users_own_has_been_read(tmp_path):
    (tmp_path / ".bashrc").write_text("PS1='mine> '")
    code = f'. {BASHRC}; echo "$PS1"'
    for home, prompt in ((tmp_path, "(lyon) mine> "), (tmp_path / "none", r"(lyon) \$ ")):
        environment = {"HOME": str(home), "ATOLL_SITE": "lyon", "PATH": os.environ["PATH"]}
        done = subprocess.run(["bash", "--norc", "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{prompt}\n"


def test_own_network_is_recognized_by_the_sites_address():
    assert wan._is_here("127.0.0.1")
    assert not wan._is_here("10.77.0.1")
