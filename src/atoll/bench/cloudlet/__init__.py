"""`atoll bench cloudlet`: the speed and size of overlays, beside `zstd --patch-from` in the same run."""
