"""The gateway's own page: what a person with a phone sees who stands in the shed. Read-only, and in nobody's way."""
