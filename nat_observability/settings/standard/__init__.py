"""Standard variables beyond those of OTLP, batches and limits: which exporters, which headers, the back ends' own."""
