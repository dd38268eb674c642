"""Debian's chromium, driven by selenium, for the tests of pages; skipped where they are missing."""

import itertools

import pytest

from tests.report.browser import CHROMIUM, DRIVER, find


@pytest.fixture(scope="session")
def driver():
    from selenium import webdriver

    if not CHROMIUM or not DRIVER:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.set_script_timeout(60)
    yield browser
    browser.quit()


@pytest.fixture
def opened(driver, pages):
    """Return a function that opens a page of the folder that a module's fixture `pages` gives.

    In light or dark, wide or narrow; no page may log an error.
    """
    from selenium.webdriver.support.ui import WebDriverWait

    counter = itertools.count()

    def go(name: str, *, fragment: str = "", width: int = 1200, scheme: str = "light", scripts: bool = True):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
        # a query of its own: another fragment alone would not load the page again
        address = f"{(pages / name).as_uri()}?{next(counter)}{fragment}"
        driver.get(address)
        # on a busy machine `get` was seen to return before the new page stood
        WebDriverWait(driver, 30).until(lambda one: one.current_url == address and find(one, "footer"))
        return driver

    yield go
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert driver.get_log("browser") == []
