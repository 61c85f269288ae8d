"""`atoll bench stores`: measures database engines through SQLAlchemy, at several round-trip times to the database server."""
