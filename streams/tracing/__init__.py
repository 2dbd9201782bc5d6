"""Traces: from an HTTP request through the headers of its record to the handler and what the handler does."""
