"""The domain: events, the fold, states, the catalogue, and the stores behind one protocol."""
