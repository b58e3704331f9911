"""Standard variables, honoured where ours are not set: OpenTelemetry's, its configuration file, the makers' own."""
