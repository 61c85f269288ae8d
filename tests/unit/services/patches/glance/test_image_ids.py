"""Image ids that a user chooses, with upstream's real API."""

from upstream import inside

ASK = """
    import tempfile
    from pathlib import Path
    from unittest import mock
    import webob.exc
    from glance.api.v2 import images
    from atoll.services.patches.glance import image_ids

    if sys.argv[1] == "ours":
        image_ids.install()
    controller = images.ImagesController(mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    controller.gateway = mock.Mock()

    def ask(image, roles=(), service_roles=()):
        context = mock.Mock(is_admin="admin" in roles, project_id="p", read_only=False, service_roles=list(service_roles))
        with mock.patch.object(images, "api_policy"), mock.patch.object(images, "ks_quota"):
            try:
                controller.create(mock.Mock(context=context), dict(image), {}, [])
            except webob.exc.HTTPForbidden:
                return "403"
        return "made"

    given = {"image_id": "i"}
    tell([
        ask({}), ask({"image_id": None}), ask(given, ["member"]), ask(given, ["member", "gateway_image"]), ask(given, ["admin"]),
        ask(given, ["member"], ["service"]), ask(given, ["member"], ["gateway_image"]),
    ])
"""


def test_only_administrators_and_the_gateway_choose_the_id_of_an_image():
    assert inside(ASK, "ours") == ["made", "made", "403", "403", "made", "403", "made"]


def test_upstream_still_needs_it():
    assert set(inside(ASK, "upstream")) == {"made"}
