from pathlib import Path

import yaml

from atoll.services import Settings
from atoll.site.clients import client_environment, clouds_yaml, exports


def settings(name: str, port: int) -> Settings:
    return Settings(name, Path("/s"), Path("/t"), "127.0.0.1", {"identity": port, "gateway": port + 1}, {"admin": "pass word"})


def test_clouds_yaml_has_every_site_and_a_default():
    clouds = yaml.safe_load(clouds_yaml([settings("paris", 15000), settings("lyon", 15010)]))["clouds"]
    assert list(clouds) == ["paris", "lyon", "default"]
    assert clouds["default"] == clouds["paris"]
    assert clouds["lyon"] == {
        "auth_type": "password",
        "auth": {
            "auth_url": "http://127.0.0.1:15011/identity/v3",
            "username": "admin",
            "password": "pass word",
            "project_name": "admin",
            "user_domain_id": "default",
            "project_domain_id": "default",
        },
        "region_name": "RegionOne",
        "identity_api_version": 3,
        "interface": "public",
    }


def test_exports_say_the_same_as_clouds_yaml():
    assert exports(settings("paris", 15000))["OS_AUTH_URL"] == "http://127.0.0.1:15001/identity/v3"
    assert exports(settings("paris", 15000))["OS_PASSWORD"] == "pass word"


def test_client_environment_has_nothing_of_another_cloud():
    own = {"PATH": "/bin", "OS_PASSWORD": "other", "OS_IDENTITY_API_VERSION": "2", "OS_COMPUTE_API_VERSION": "2.90", "no_proxy": "intra"}
    environment = client_environment(settings("paris", 15000), Path("/s/clouds.yaml"), own)
    assert environment == {
        "PATH": "/bin",
        "OS_COMPUTE_API_VERSION": "2.90",
        "OS_CLIENT_CONFIG_FILE": "/s/clouds.yaml",
        "OS_CLOUD": "paris",
        "no_proxy": "intra,127.0.0.1",
        "NO_PROXY": "127.0.0.1",
    }
