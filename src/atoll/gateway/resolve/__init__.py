"""The sites that a request concerns: by the table of resources, by what it names, and by what was learned."""
