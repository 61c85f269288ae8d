"""Transfer of a site's databases from one engine to another: the schema by upstream's migrations, then all rows, then their comparison."""
