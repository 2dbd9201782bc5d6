"""What happens, as it happens: one reader per process tells all who want to know of job statuses and events."""
