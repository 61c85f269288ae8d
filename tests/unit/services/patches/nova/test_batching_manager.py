"""A build and a deletion at a compute site with upstream's manager, whose calls are batched, compared with those that are not."""

import pytest
from compute_site import LAB
from upstream import inside

LIFE = (
    LAB
    + """
    compute = globals()[sys.argv[1]]()
    instance, disks = server()
    found = {"build": ran(lambda: build(compute, instance, disks))}
    gone(instance)
    instance, disks = doomed(compute)
    found["delete"] = ran(lambda: compute.terminate_instance(user, instance, disks))
    for refused, name in (("spawn", "failed build"), ("placement", "failed deletion")):
        refusals.clear()
        instance, disks = server() if refused == "spawn" else doomed(compute)
        refusals.add(refused)
        found[name] = ran(lambda: build(compute, instance, disks) if refused == "spawn" else
                          compute.terminate_instance(user, instance, disks))
        gone(instance)
    refusals.clear()
    instance, disks = server()
    elsewhere(instance, task_state=task_states.DELETING)
    build(compute, instance, disks)
    found["remembered"] = instance.uuid in compute.rt.is_bfv
    tell(found)
"""
)

OTHERS = ("deleting", "gone", "reset", "refused")

DISTURBED = (
    LAB
    + """
    compute = globals()[sys.argv[1]]()
    OTHERS = {"deleting": lambda one: elsewhere(one, task_state=task_states.DELETING), "gone": gone, "refused": lambda one: refuse(),
              "reset": lambda one: elsewhere(one, task_state=task_states.REBUILDING)}

    def life(name, write, other):
        disturbed.act = refuse
        instance, disks = server() if name == "build" else doomed(compute)
        work = {"build": lambda: build(compute, instance, disks), "delete": lambda: compute.terminate_instance(user, instance, disks)}[name]
        disturbed.write = write
        disturbed.act = lambda: OTHERS[other](instance)
        told = ran(work)
        effects = [step[0] for step in told["steps"] if step[0] != "written"]
        try:
            gone(instance)
        except exception.InstanceNotFound:
            pass
        return [told["result"], effects, told["left"]]

    tell({f"{name}, {other} before write {write}": life(name, write, other)
          for name, writes in (("build", 10), ("delete", 6)) for other in OTHERS for write in range(1, writes + 1)})
"""
)

TOLERATED = {f"delete, refused before write {write}" for write in (1, 2, 3)}
"""Deletions that fail for a fault of the database. They are the same but for the server's state: in ERROR as for later faults, even if the
record of the event failed; and the ports that are gone are no longer listed."""


@pytest.fixture(scope="module")
def lives():
    return {kind: inside(LIFE, kind) for kind in ("plain", "batched")}


@pytest.mark.parametrize("part", ["build", "delete", "failed build", "failed deletion"])
def test_each_write_and_effect_is_that_of_upstream(lives, part):
    """A process that is killed at any moment leaves what upstream may leave: the steps are the same, each after the same writes."""
    plain, batched = (lives[kind][part] for kind in ("plain", "batched"))
    assert plain["steps"]
    assert batched["steps"] == plain["steps"]
    assert (batched["result"], batched["left"]) == (plain["result"], plain["left"])


def test_upstream_sends_a_message_for_each_call(lives):
    """If this fails, upstream batches its calls, and the patches of services/patches/entries/compute_site.py can go."""
    assert [len(lives["plain"][part]["messages"]) for part in ("build", "delete")] == [15, 11]


def test_few_messages_are_left(lives):
    batches, save, event = "object_actions", "Instance.save", "InstanceActionEvent.event_finish_with_failure"
    report = "ComputeNode.save"  # beside the others
    sent = {part: [each for each in lives["batched"][part]["messages"] if each != report] for part in ("build", "delete")}
    assert sent == {"build": [batches, batches, batches, batches, save, save, event], "delete": [batches, batches, event]}


def test_nothing_is_remembered_of_a_server_that_was_deleted_before_its_build(lives):
    assert [lives[kind]["remembered"] for kind in ("plain", "batched")] == [False, False]


def test_claims_travel_with_the_batches(lives):
    for kind, place in (("plain", "edge"), ("batched", "conductor")):
        assert lives[kind]["build"]["requests"] == [["GET", place]]
        assert lives[kind]["delete"]["requests"] == [["DELETE", place]]


def test_a_deletion_whose_allocations_stay_keeps_the_server(lives):
    (left,) = lives["batched"]["failed deletion"]["left"]
    assert left[0] == "error"


@pytest.mark.long
def test_whatever_others_do_meanwhile_ends_as_with_upstream():
    """Another process deletes, resets or destroys the server, or the database refuses, before each of the writes."""
    plain, batched = (inside(DISTURBED, kind) for kind in ("plain", "batched"))
    assert len(plain) == 16 * len(OTHERS)
    assert {name for name in plain if plain[name] != batched[name]} <= TOLERATED
    for name in TOLERATED:
        assert batched[name][:2] == plain[name][:2]
