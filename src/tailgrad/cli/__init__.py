"""The command line: flat options, one call each, no logic."""
