"""What runs handlers: in threads, in tasks of an event loop, in child processes."""
