"""Recovery of work that was under way when Nova was killed."""
