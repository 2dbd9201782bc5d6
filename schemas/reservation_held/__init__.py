"""The contract ``reservation.held``."""
