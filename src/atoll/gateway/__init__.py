"""A site's one API door: routes, proxy, unions, the scope language."""
