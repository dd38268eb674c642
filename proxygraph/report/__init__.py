"""Reports: one HTML file that shows runs, opens from disk and needs no network.

`runs` reads what a run left, `layered` and `svg` draw, `plots` and `graphs` make the figures, `page` puts a
page together. Nothing below `page` knows runs, so that other reports can be made of the same parts.
"""
