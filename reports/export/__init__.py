"""A run's summary in other forms than the page: Markdown, LaTeX, PDF, a fragment for a model card."""
