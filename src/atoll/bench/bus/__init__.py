"""What a message bus costs, and whether it loses anything: the same oslo.messaging code over one transport or another."""
