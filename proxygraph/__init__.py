"""proxygraph: discover training-free proxies as typed computation graphs."""
