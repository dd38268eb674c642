"""A segmenter search as one page, made of the parts of `proxygraph.report` (docs/report.md).

`archs` draws a network, also for other documents; `measured` and `trained` read what came after the search,
`figures` draws, `view` puts the page together.
"""
