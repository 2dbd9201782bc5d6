"""The contract ``reservation.cancelled``."""
