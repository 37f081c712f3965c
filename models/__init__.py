"""Fitted models and their artifacts. Empty until the first model lands."""
