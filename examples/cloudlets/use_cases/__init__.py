"""Two uses of cloudlets that run on one machine, with or without an Atoll cloud: forest fire, and garbage collection."""
