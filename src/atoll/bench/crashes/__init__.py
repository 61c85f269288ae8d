"""`atoll bench crashes`: kill a process at a crash point during a request, and check that no lasting damage is left."""
