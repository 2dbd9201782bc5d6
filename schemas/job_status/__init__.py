"""The contract ``job.status``."""
