"""`atoll bench wan`: the requested properties of an emulated link compared with those that ping and iperf3 measure."""
