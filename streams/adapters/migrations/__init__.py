"""The versions of the database; ``streams.adapters.sql.migrate`` applies them."""
