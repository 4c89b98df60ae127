"""Planning an audit: how many items a verdict, a comparison or a price needs, by simulation of the rules that decide them."""
