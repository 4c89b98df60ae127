"""What people look at: figures and the page. Nothing here computes a statistic; numbers come from `summary.json`."""
