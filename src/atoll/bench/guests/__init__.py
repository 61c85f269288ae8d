"""`atoll bench guests`: boot times, throughput and memory of real guests on real networks."""
