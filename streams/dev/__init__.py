"""The embedded stack: a real Apache Kafka, Redis and PostgreSQL as child processes, without Docker, Java or root.

Public names: ``Stack``, ``Addresses`` (``streams.dev.stack``), ``StackError`` (``streams.dev.errors``),
``KafkaBroker`` (``streams.dev.kafka``) for brokers with further listeners.
"""
