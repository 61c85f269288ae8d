"""`atoll bench faults`: whether a cloud keeps what it has acknowledged, whatever happens to its sites and to the links between them."""
