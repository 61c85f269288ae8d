"""oslo.messaging drivers. They import nothing of the rest of Atoll and could be published alone."""
