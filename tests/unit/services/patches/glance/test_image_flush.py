"""Images that are on the disk when Glance has accepted them, with upstream's real store."""

from upstream import inside

ASK = """
    import errno
    import io
    import tempfile
    from pathlib import Path
    from unittest import mock
    from glance_store import exceptions
    from glance_store._drivers import filesystem
    from atoll.services.patches.glance import image_flush

    if sys.argv[1] == "ours":
        image_flush.install()
    fails = sys.argv[2] == "fails"
    flushed = []

    def flush(path):
        if fails:
            raise OSError(errno.EIO, "Input/output error")
        flushed.append("data" if Path(path).is_file() and Path(path).read_bytes() == b"coral" else Path(path).name)

    image_flush.flush = flush
    directory = Path(tempfile.mkdtemp()) / "images"
    directory.mkdir()
    store = filesystem.Store(mock.Mock(), backend=None)
    store.conf.glance_store = store.conf
    store._find_best_datadir = lambda size: str(directory)
    store._get_metadata = lambda path: {}
    store.store_conf = mock.Mock(filesystem_store_file_perm=0)
    store.thin_provisioning = False
    store.WRITE_CHUNKSIZE = 4096
    store.backend_group = None
    store._capabilities = 255
    try:
        with mock.patch.object(filesystem.os, "fsync", lambda _descriptor: flushed.append("upstream")):
            told = store.add("an-image", io.BytesIO(b"coral"), 5, "sha512")[1]
    except exceptions.StorageWriteDenied:
        told = "refused"
    tell([told, flushed, sorted(path.name for path in directory.iterdir())])
"""


def test_data_and_its_name_are_flushed_before_glance_goes_on():
    assert inside(ASK, "ours", "works") == [5, ["data", "images"], ["an-image"]]


def test_an_image_that_cannot_be_flushed_is_refused_and_leaves_nothing():
    assert inside(ASK, "ours", "fails") == ["refused", [], []]


def test_upstream_still_needs_it():
    assert inside(ASK, "upstream", "works") == [5, [], ["an-image"]]
