"""The command line: a file a verb, each a thin caller."""
