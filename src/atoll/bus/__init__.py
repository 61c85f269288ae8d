"""An oslo.messaging driver over Zenoh. It imports only `atoll.zenoh_link`, so that both can be published without the rest of Atoll."""
