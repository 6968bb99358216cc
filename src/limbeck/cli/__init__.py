"""The command line: ``limbeck VERB``."""
