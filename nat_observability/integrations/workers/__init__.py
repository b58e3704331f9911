"""What the integrations of workers share: a process's exporters, and a run for each message or job."""
