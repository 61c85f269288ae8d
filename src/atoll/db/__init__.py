"""SQLAlchemy URL plugins for SQLite and PostgreSQL. They import nothing of Atoll and could be published alone."""
