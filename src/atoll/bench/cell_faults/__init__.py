"""Faults as steps of a cell of an experiment: injected at a time or at a point of a workflow, recorded, and undone."""
