"""Tags of a resource that does not exist, with upstream's controller."""

from upstream import inside

ASK = """
    import webob
    from unittest import mock
    from neutron.api import extensions
    from neutron.extensions import tagging
    from neutron_lib.plugins import directory
    from atoll.services.patches.neutron import missing_tags

    if sys.argv[1] == "ours":
        manager = mock.Mock(extensions={tagging.Tagging.get_alias(): tagging.Tagging()})
        with mock.patch.object(extensions.PluginAwareExtensionManager, "get_instance", return_value=manager):
            missing_tags.install()
    with mock.patch.object(directory, "get_plugin"):
        controller = tagging.TaggingController()
    nothing = mock.Mock()
    nothing.get_object.return_value = None
    answers, red = [], {"id": "red"}
    with mock.patch.dict(tagging.OVO_CLS, {name: nothing for name in tagging.OVO_CLS}), mock.patch.dict(
        tagging.attributes.RESOURCES, {name: {} for name in controller.supported_resources}
    ):
        for action, more in (("index", {}), ("show", red), ("update", red), ("delete", red), ("delete_all", {})):
            try:
                getattr(controller, action)(mock.Mock(), network_id="n1", **more)
            except Exception as error:
                answers.append([type(error).__name__, str(error)])
    tell(answers)
"""


def test_tags_of_a_missing_resource_are_404():
    assert inside(ASK, "ours") == [["TagResourceNotFound", "Resource network n1 could not be found."]] * 5


def test_upstream_still_needs_it():
    assert {name for name, _text in inside(ASK, "upstream")} == {"KeyError"}
