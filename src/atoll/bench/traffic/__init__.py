"""`atoll bench traffic`: measures the control traffic of operations, with and without the patches that reduce it."""
