"""The contract ``chaos.write``."""
