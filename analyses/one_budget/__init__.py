"""Methods under one budget: each at its best policy within the same price, and the answer of a comparison."""
