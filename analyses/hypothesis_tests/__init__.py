"""The six standard hypotheses: a file each, with its claim, its rule and its test."""
