"""Where keys and groups stand, read from Kafka alone: no group is joined, nothing is changed, no worker is needed."""
