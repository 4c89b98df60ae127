"""Items: documents, questions and competing answers; their files, and how answers are matched in text."""
