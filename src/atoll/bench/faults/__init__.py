"""`atoll bench faults`: check that a cloud keeps every acknowledged change, whatever faults befall its sites and links."""
