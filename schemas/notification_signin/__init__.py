"""The contract ``notification.signin``."""
