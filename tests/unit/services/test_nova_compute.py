"""What services/nova_compute.py repeats of upstream's start-up code is still what upstream does."""

from dataclasses import replace

from upstream import check, inside

from atoll.services import COMPUTE


def test_compute_starts_as_we_start_it():
    known = {
        ("nova/cmd/compute.py", "main"): "fca19b9c",
        ("nova/config.py", "parse_args"): "c27cf6a0",
        ("nova/conductor/api.py", "API.wait_until_ready"): "babbf4f3",
    }
    check("nova", known, "services/nova_compute.py repeats what `main` does before `service.serve`")


CONFIGURE = """
    import logging
    from atoll.services import nova_compute
    from atoll.services.contract import Settings
    nova_compute._configure(Settings.load(sys.argv[1]))
    from nova import context, objects
    from nova.conf import CONF
    from nova.db.main import api
    from nova.objects.base import NovaObject
    import nova.virt.fake
    def database():
        try:
            api.service_get_all(context.get_admin_context())
        except Exception as error:
            return type(error).__name__
    tell([CONF.host, CONF.my_ip, type(NovaObject.indirection_api).__name__, database(), hasattr(nova.virt.fake, "RestoredFakeDriver"),
          CONF.transport_url, CONF.api_database.connection])
"""


def test_it_has_no_database_and_asks_the_conductor(settings):
    settings = replace(settings, site="edge", control="paris", address="127.0.0.2", transport_url="zenoh://127.0.0.1:15009/paris")
    (settings.etc / "nova").mkdir(parents=True)
    settings.tls.mkdir()
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (settings.tls / name).touch()  # the driver looks whether they are there
    settings.save()
    (settings.etc / "nova" / "nova.conf").write_text(COMPUTE.configuration(settings)["nova/nova.conf"])
    found = inside(CONFIGURE, str(settings.directory))
    assert found == ["edge", "127.0.0.2", "ConductorAPI", "DBNotAllowed", True, "zenoh://127.0.0.1:15009/paris", None]
