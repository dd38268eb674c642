"""A page taken apart, and what every report keeps: it needs nothing else, is whole, can be read aloud."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "br", "link", "input"}
OMITTED = {"td", "th", "tr"}  # end tags that HTML allows to leave out


class Page(HTMLParser):
    """The elements of a page with their attributes and text; fails on tags that do not fit."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[int] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if self.open and self.tag_at(-1) in ("td", "th") and tag in ("td", "th", "tr"):
            self.open.pop()
        if tag == "tr" and self.open and self.tag_at(-1) == "tr":
            self.open.pop()
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        assert len(dict(attrs)) == len(attrs), f"<{tag}> says an attribute twice"
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        while self.tag_at(-1) != tag and self.tag_at(-1) in OMITTED:
            self.open.pop()
        assert self.tag_at(-1) == tag, f"</{tag}> closes <{self.tag_at(-1)}>"
        self.open.pop()

    def handle_data(self, data):
        for i in self.open:
            self.texts[i] += data

    def tag_at(self, k):
        return self.elements[self.open[k]][0]

    def all(self, tag):
        return [a for t, a in self.elements if t == tag]

    def text_of(self, tag):
        return [text for (t, _), text in zip(self.elements, self.texts, strict=True) if t == tag]

    def with_attribute(self, name):
        return [(t, a) for t, a in self.elements if name in a]


def check_needs_nothing_else(html, parsed):
    assert all(a["href"].startswith("#") for _, a in parsed.with_attribute("href"))
    assert all(a["src"].startswith("data:image/") for _, a in parsed.with_attribute("src"))
    assert "url(" not in html
    assert "@import" not in html
    (policy,) = (a["content"] for a in parsed.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    inside = [
        *re.findall(r"<script>(.*?)</script>", html, re.S),
        *re.findall(r"<style>(.*?)</style>", html, re.S),
    ]
    assert len(inside) == 2
    for content in inside:
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not parsed.with_attribute("style")  # the policy would drop it
    assert not [a for _, a in parsed.elements if any(name.startswith("on") for name in a)]


def check_references(parsed):
    ids = [a["id"] for _, a in parsed.with_attribute("id")]
    assert len(ids) == len(set(ids))
    for _, a in parsed.elements:
        for name in ("aria-labelledby", "href"):
            if name in a:
                assert a[name].removeprefix("#") in ids
        for name in ("data-pick", "data-row", "data-mark", "data-of", "data-cloud"):
            if name in a:
                assert a[name] in ids


def check_for_screen_readers(parsed):
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("main")) == len(parsed.all("h1")) == len(parsed.all("header")) == 1
    levels = [int(t[1]) for t, _ in parsed.elements if re.fullmatch("h[1-6]", t)]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    for svg in parsed.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] in ("img", "group") and svg["aria-label"])
    for kind in ("section", "article", "nav"):
        assert all("aria-labelledby" in a for a in parsed.all(kind))
    assert all(a.get("scope") in ("col", "row") for a in parsed.all("th"))
    assert all(a.get("type") == "button" and a["aria-label"] for a in parsed.all("button"))
    scrolled = [
        a
        for _, a in parsed.elements
        if a.get("class", "") and {"wide", "typeset", "graphbox"} & {*a["class"].split()}
    ]
    assert scrolled
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in scrolled)
    assert sum(a["href"] == "#main" for a in parsed.all("a")) == 1
