"""The contract ``reservation.confirmed``."""
