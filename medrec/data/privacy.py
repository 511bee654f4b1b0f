"""What may be shown of records that are not open."""

LIMIT = 10
