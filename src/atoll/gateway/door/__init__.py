"""The two servers of a gateway, and the limits of those who come to them."""
