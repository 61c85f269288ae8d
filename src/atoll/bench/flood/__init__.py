"""`atoll bench flood`: the latency that honest clients see while the public ports of a cloud are flooded."""
