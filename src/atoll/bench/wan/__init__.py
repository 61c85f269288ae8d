"""`atoll bench wan`: what is asked of an emulated link against what ping and iperf3 measure."""
