"""The HTTP door: events and jobs in, their state out, for clients without Kafka."""
