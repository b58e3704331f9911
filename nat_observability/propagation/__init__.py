"""What a trace carries from one service to the next: ids, W3C traceparent, headers."""
