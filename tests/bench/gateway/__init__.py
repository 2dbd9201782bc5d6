"""``make bench-gateway``: the HTTP gateway beside the smallest handler that could do its work."""
