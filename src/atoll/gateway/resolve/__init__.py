"""Finds the sites that a request concerns, by tables of resources and references, by its body, and by earlier answers."""
