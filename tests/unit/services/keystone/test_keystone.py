"""Internals of Keystone that services/keystone/service.py relies on."""

import stat

from upstream import inside

from atoll.services.keystone import service as keystone


def test_providers_can_be_registered_a_second_time():
    """The bootstrapper loads the back ends and locks their registry; the application must be able to load them again."""
    found = inside(
        """
        from keystone.common import provider_api
        providers = provider_api.ProviderAPIs
        providers._register_provider_api("x_api", 1)
        providers.lock_provider_registry()
        def register(value):
            try:
                providers._register_provider_api("x_api", value)
                return "registered"
            except Exception as error:
                return type(error).__name__
        first = register(2)
        providers._clear_registry_instances()
        tell([first, register(2), providers.x_api])
        """
    )
    assert found == ["RuntimeError", "registered", 2]


def test_keys_are_made_once_and_private(tmp_path):
    inside(
        """
        from pathlib import Path
        from atoll.services.keystone import service as keystone
        keystone._make_keys(Path(sys.argv[1]))
        tell(None)
        """,
        str(tmp_path / "keys"),
    )
    keys = {path.relative_to(tmp_path / "keys"): path for path in (tmp_path / "keys").rglob("*")}
    assert {str(name) for name in keys} == {
        *("public", "public/public.pem", "private", "private/private.pem"),
        *("receipts", "receipts/0", "receipts/1", "credential", "credential/0", "credential/1"),
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600) for path in keys.values())
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]
    before = {name: path.read_bytes() for name, path in keys.items() if path.is_file()}
    keystone._make_keys(tmp_path / "keys")
    assert {name: path.read_bytes() for name, path in keys.items() if path.is_file()} == before


def test_interrupted_making_of_keys_is_made_good(tmp_path):
    (tmp_path / "keys.new/public").mkdir(parents=True)
    (tmp_path / "keys.new/public/public.pem").write_text("half")
    inside(
        """
        from pathlib import Path
        from atoll.services.keystone import service as keystone
        keystone._make_keys(Path(sys.argv[1]))
        tell(None)
        """,
        str(tmp_path / "keys"),
    )
    assert "BEGIN PUBLIC KEY" in (tmp_path / "keys/public/public.pem").read_text()


def test_validating_tokens_is_upstreams_rule_and_the_gateways_account():
    found = inside(
        """
        from keystone.common.policies import token
        tell([rule.check_str for rule in token.list_rules() if rule.name == "identity:validate_token"])
        """
    )
    assert [f"{rule} or role:gateway_image" for rule in found] == [keystone.VALIDATE_TOKEN]
