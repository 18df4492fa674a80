"""The parts of both apps beside uploads: the OpenAPI description, the pages, the metrics."""
