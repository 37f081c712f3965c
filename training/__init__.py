"""Offline jobs: replay of the log, and adapters for public data."""
