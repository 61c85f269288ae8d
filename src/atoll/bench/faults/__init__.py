"""`atoll bench faults`: check that a cloud keeps every acknowledged change, whatever faults its sites and links have."""
