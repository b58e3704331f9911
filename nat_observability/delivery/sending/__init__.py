"""From a batch to a sink: the tries, the circuit breaker, and every kind of sink in one form."""
