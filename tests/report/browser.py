"""What tests of pages in a real browser share."""

import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
CONTRAST = """
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = light(getComputedStyle(document.querySelector(".card")).backgroundColor);
  return [...arguments].map((query) => {
    const element = document.querySelector(query), style = getComputedStyle(element);
    const ahead = light(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    return (Math.max(ahead, behind) + 0.05) / (Math.min(ahead, behind) + 0.05);
  });
"""


def find(driver, query):
    return driver.find_elements("css selector", query)


def shown(driver, query="article"):
    """The ids of the articles, or of what else is asked for, that can be seen."""
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility())"
        ".map((one) => one.id)",
        query,
    )


def chosen(driver, plot=".picks"):
    """What plot and list say is chosen, and the address."""
    checked = [one.get_attribute("data-pick") for one in find(driver, f"{plot} .pick[aria-checked=true]")]
    current = [one.get_attribute("data-pick") for one in find(driver, ".list [aria-current=true]")]
    return checked, current, driver.execute_script("return location.hash")


def too_wide(driver, width):
    """What reaches over the edge of a phone, all details open; empty if nothing does."""
    driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    wide, out = driver.execute_script(
        """
      const scrolled = (one) => one.closest(".wide, .typeset, .graphbox, .text"), width = arguments[0];
      const out = [...document.querySelectorAll("main *")].filter((one) =>
        one.getBoundingClientRect().right > width + 0.5 && !scrolled(one) && !one.closest("svg"));
      return [document.documentElement.scrollWidth, out.map((one) => one.outerHTML.slice(0, 80))];
    """,
        width,
    )
    return out or ([f"the page scrolls to {wide}"] if wide > width else [])
