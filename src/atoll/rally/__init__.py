"""Rally, OpenStack's benchmark, in an environment of its own: that environment, checks of its tasks, and its results."""
