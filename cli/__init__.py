"""The `kairos` command: the one package that imports both roads."""
