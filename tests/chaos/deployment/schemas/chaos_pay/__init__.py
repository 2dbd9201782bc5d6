"""The contract ``chaos.pay``."""
