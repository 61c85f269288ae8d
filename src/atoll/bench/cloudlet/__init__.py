"""`atoll bench cloudlet`: the speed and size of overlays, compared with `zstd --patch-from` in the same run."""
