"""Load over HTTP alone: nothing here imports the engine."""
