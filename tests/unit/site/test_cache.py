from atoll.site.cache import held


def test_sweep_removes_other_keys_and_remainders(cache):
    with held(cache, "old") as old:
        (old.directory / "nova").mkdir()
    with held(cache, "new") as new:
        for name in ("nova", "nova.123.new"):
            (new.directory / name).mkdir()
        new.sweep(["nova"])
        assert [path.name for path in (cache / "templates").iterdir()] == ["new"]
        assert [path.name for path in new.directory.iterdir()] == ["nova"]


def test_sweep_spares_what_others_use(cache):
    with held(cache, "old") as old, held(cache, "new") as new, held(cache, "new") as again:
        (old.directory / "nova").mkdir()
        (new.directory / "nova.123.new").mkdir()
        again.sweep(["nova"])
        assert (old.directory / "nova").exists()
        assert (new.directory / "nova.123.new").exists()


def test_cache_is_private(cache):
    with held(cache, "key") as templates:
        assert templates.directory.stat().st_mode & 0o777 == 0o700
