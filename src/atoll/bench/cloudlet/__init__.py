"""`atoll bench cloudlet`: measures the speed and size of overlays, and compares them with `zstd --patch-from` in the same run."""
