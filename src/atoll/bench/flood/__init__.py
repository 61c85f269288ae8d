"""`atoll bench flood`: measures the latency of honest clients' requests while an attacker floods the public ports of a cloud."""
