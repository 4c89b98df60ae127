"""Statistics that know nothing of audits: intervals, bootstrap, regression, tests, power."""
