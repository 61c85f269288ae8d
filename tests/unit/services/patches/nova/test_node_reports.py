"""Saves of the host's record that are sent beside the work, with Nova's real object."""

import pytest
from upstream import inside

REPORTS = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import threading
    from nova import exception, objects
    from nova.objects.compute_node import ComputeNode
    from atoll.services.patches.nova import node_reports
    from oslo_utils import uuidutils

    node_reports.RETRY_S = 0.01
    UUID = uuidutils.generate_uuid()
    sent, errors = [], []
    arrived, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def send(context, node, method, args, kwargs):
        arrived.release()
        go_on.acquire()
        if errors:
            raise errors.pop()
        sent.append([node.vcpus_used if "vcpus_used" in node else None, sorted(node.obj_what_changed())])
        return {"obj_what_changed": []}, None

    reports = node_reports.NodeReports(send)
    node = ComputeNode(uuid=UUID, vcpus_used=0)

    def save(waits=False, **changes):
        for name, value in changes.items():
            setattr(node, name, value)
        told = reports.save(None, node, (), {}, waits=waits)
        node.obj_reset_changes()
        return told

    node.obj_reset_changes()
    first = save(vcpus_used=1)
    arrived.acquire()  # it is on its way
    save(vcpus_used=2)
    save(memory_mb_used=3)  # replaces the one before
    errors.append(exception.NovaException("refused"))
    go_on.release()  # the first is refused, and goes again, with the newer ones
    arrived.acquire()
    go_on.release()
    waited = []
    thread = threading.Thread(target=lambda: waited.append(save(waits=True, vcpus_used=4)))
    thread.start()
    arrived.acquire()
    go_on.release()
    thread.join()
    in_order, sent = list(sent), []

    def failed():
        try:
            save(waits=True, vcpus_used=5)
        except exception.NovaException as error:
            waited.append(str(error))
    errors.append(exception.NovaException("again"))
    thread = threading.Thread(target=failed)
    go_on.release()
    thread.start()
    thread.join()
    go_on.release()
    arrived.acquire(), arrived.acquire()
    while not sent:
        pass
    tell({"first": [list(first[0].values()), first[1]], "sent": in_order, "waited": waited[1:], "later": sent})
"""


@pytest.fixture(scope="module")
def reports():
    return inside(REPORTS)


def test_saves_are_sent_in_order_and_the_newest_replaces_those_that_wait(reports):
    """The first is refused: its changes are sent with the newest ones."""
    assert reports["first"] == [[[]], None]
    assert reports["sent"] == [[2, ["memory_mb_used", "vcpus_used"]], [4, ["vcpus_used"]]]


def test_who_waits_gets_the_error_and_the_save_is_sent_again(reports):
    assert reports["waited"] == ["again"]
    assert reports["later"] == [[5, ["vcpus_used"]]]


REPLACED = (
    REPORTS.partition("    first = save(")[0]
    + """
    save(vcpus_used=1)
    arrived.acquire()
    waited = []
    def waiting():
        try:
            waited.append(save(waits=True, vcpus_used=2))
        except exception.NovaException as error:
            waited.append(str(error))
    thread = threading.Thread(target=waiting)
    thread.start()
    while not any(report.node.vcpus_used == 2 for report in list(reports._unsent.values())):
        pass
    save(vcpus_used=3)
    go_on.release()
    arrived.acquire()
    errors.append(exception.NovaException("refused"))
    go_on.release()
    arrived.acquire()  # it is sent again
    thread.join(1)
    told = list(waited)
    go_on.release()
    while len(sent) < 2:
        pass
    tell({"told": told, "sent": sent})
"""
)


def test_who_waits_gets_the_error_of_the_save_that_took_its_place():
    """Otherwise a periodic task would wait for as long as the conductor is away."""
    assert inside(REPLACED) == {"told": ["refused"], "sent": [[1, ["vcpus_used"]], [3, ["vcpus_used"]]]}
