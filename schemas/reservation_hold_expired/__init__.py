"""The contract ``reservation.hold_expired``."""
