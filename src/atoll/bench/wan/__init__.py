"""`atoll bench wan`: compares the requested properties of an emulated link with those that ping and iperf3 measure."""
