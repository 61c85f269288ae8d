"""`atoll bench stores`: database engines, measured through SQLAlchemy at several round-trip times to the database server."""
