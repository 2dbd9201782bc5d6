"""Kafka through aiokafka: options of every client, the publisher, the log reader, topics, and the group consumer."""
