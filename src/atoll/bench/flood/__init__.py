"""A flood of rubbish at the public ports of a cloud, and what honest clients notice of it."""
