"""Registry entries of Glance's patches."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind

_TESTS = f"{UNIT}patches/glance/"
_MODULE = "atoll.services.patches.glance."

PATCHES = (
    Patch(
        "glance-image-flush",
        "glance-store",
        PatchKind.WRAPPER,
        ("glance_store._drivers.filesystem.Store.add",),
        "The file store does not flush an image before the database says that it is active.",
        f"{_MODULE}image_flush",
        f"{_TESTS}test_image_flush.py::test_data_and_its_name_are_flushed_before_glance_goes_on",
        f"{_TESTS}test_image_flush.py::test_upstream_still_needs_it",
    ),
    Patch(
        "glance-image-deletion",
        "glance",
        PatchKind.WRAPPER,
        ("glance.location.ImageProxy.delete",),
        "A Glance that is killed while it deletes an image leaves one that is active and has no data.",
        f"{_MODULE}image_deletion",
        f"{_TESTS}test_image_deletion.py::test_deletion_that_was_under_way_is_finished_at_the_next_start",
        f"{_TESTS}test_image_deletion.py::test_upstream_still_needs_it",
        sources={"glance/location.py:ImageProxy.delete": "e57b5654"},
    ),
    Patch(
        "glance-image-ids",
        "glance",
        PatchKind.WRAPPER,
        ("glance.api.v2.images.ImagesController.create",),
        "Any user may choose the id of an image, and an id must mean one image in the whole cloud.",
        f"{_MODULE}image_ids",
        f"{_TESTS}test_image_ids.py::test_only_administrators_and_the_gateway_choose_the_id_of_an_image",
        f"{_TESTS}test_image_ids.py::test_upstream_still_needs_it",
        sources={"glance/api/v2/images.py:ImagesController.create": "e6bdd9fb"},
    ),
    Patch(
        "glance-recovery",
        "glance",
        PatchKind.RECOVERY,
        ("glance.db.sqlalchemy.api.image_update", "glance.db.sqlalchemy.api.image_destroy"),
        "An upload or a deletion that was under way when Glance was killed would never end.",
        "atoll.services.glance.recovery",
        f"{UNIT}glance/test_glance_recovery.py::test_an_image_whose_data_were_coming_waits_for_them_again",
        unprovable="Upstream does nothing when it starts, so a test would show the absence of a function.",
    ),
)
