"""An API extension that returns ports together with all data that Nova reads of them."""
