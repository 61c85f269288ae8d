"""`atoll bench guests`: measures the boot times, throughput and memory of real guests on real networks."""
