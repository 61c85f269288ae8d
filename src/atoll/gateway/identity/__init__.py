"""The gateway's part in identity: the trust in other members, and the order of cause and effect between sites."""
