"""The running service: HTTP, ingest, folders, archiver, erasure, metrics."""
