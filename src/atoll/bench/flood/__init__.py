"""`atoll bench flood`: the latency of honest clients' requests while an attacker floods the public ports of a cloud."""
