"""nova-compute of a compute site, which has no database."""

from dataclasses import replace

from upstream import inside

from atoll.services import COMPUTE

CONFIGURE = """
    import logging
    from atoll.services.nova import compute_site
    from atoll.services.contract import Settings
    compute_site._configure(Settings.load(sys.argv[1]))
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


def test_nova_compute_has_no_database_and_asks_the_conductor(settings):
    settings = replace(settings, site="edge", control="paris", address="127.0.0.2", transport_url="zenoh://127.0.0.1:15009/paris")
    (settings.etc / "nova").mkdir(parents=True)
    settings.tls.mkdir()
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (settings.tls / name).touch()  # the driver checks that these files exist
    settings.save()
    (settings.etc / "nova" / "nova.conf").write_text(COMPUTE.configuration(settings)["nova/nova.conf"])
    found = inside(CONFIGURE, str(settings.directory))
    assert found == ["edge", "127.0.0.2", "BatchingAPI", "DBNotAllowed", True, "zenoh://127.0.0.1:15009/paris", None]
