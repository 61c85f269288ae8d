"""SQLAlchemy plugins. They import nothing of Atoll and could be published alone."""
