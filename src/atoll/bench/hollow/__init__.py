"""`atoll bench hollow`: many members without OpenStack on one machine, to measure the mesh at a size that full sites do not allow."""
