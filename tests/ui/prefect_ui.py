"""Prefect's UI in a headless Chromium: what a person does there, and pictures of what that person sees.

It knows the pages of Prefect 3.8.8 below /v2, by the words on them, and nothing of what is deployed.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright
from team_server import TeamServer, wait_until

WINDOW = {"width": 1400, "height": 1000}
CLICK_WITHIN_MS = 60_000
RUN_WITHIN_MS = 240_000  # a stage of seconds, while other tests have the processor
OPTIONAL = " (Optional)"
SETTLES_IN_MS = 700  # of what fades in


def require_chromium() -> str:
    """Skip where nobody can install Chromium, fail where `./test` should have."""
    path = shutil.which("chromium")
    if path is None:
        say = pytest.skip if os.getuid() != 0 else pytest.fail
        say("no chromium on PATH; as root, ./test installs it")
    assert path is not None
    return path


@dataclass(kw_only=True)
class PrefectUi:
    """One window."""

    page: Page
    team: TeamServer
    pictures: Path
    tell: Callable[[str], None] = print

    def picture(self, name: str, *, of: Locator | None = None) -> None:
        """Keep what is to be seen of the whole page now, or of the window once that part of it is in sight."""
        if of is not None:
            of.evaluate("part => part.scrollIntoView({block: 'center'})")
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(SETTLES_IN_MS)
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path, full_page=of is None)
        self.tell(f"screenshot {path}")

    def open(self, path: str) -> None:
        self.page.goto(self.team.api_url.removesuffix("/api") + f"/v2/{path}")

    def sign_in(self) -> None:
        self.open("login")
        self.page.get_by_placeholder("admin:pass").fill(self.team.auth)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**/dashboard*")

    def open_form(self, deployment: str) -> None:
        """The form that starts a run of it."""
        self.open(f"deployments/deployment/{self.team.ask(f'deployments/name/{deployment}')['id']}/run")
        self.page.get_by_role("button", name="Select config").wait_for()

    def submit(self) -> str:
        """Submit the form and go to the run that there is then: its id."""
        self.page.get_by_role("button", name="Submit").click()
        # The link slides in and is gone after 4 s, which a busy machine may need to see that it stands still.
        self.page.get_by_role("link", name="View run").dispatch_event("click")
        self.page.wait_for_url("**/runs/flow-run/**")
        return self.page.url.rpartition("/")[2].partition("?")[0]

    def fields(self) -> list[str]:
        """The labels of the form's parameters, in order."""
        texts = self.page.locator("form label").all_inner_texts()
        return [text.removesuffix(OPTIONAL) for text in texts if text.endswith(OPTIONAL)]

    def field(self, name: str, *, of: Locator | None = None) -> Locator:
        """A field of a form with its label, or one in the box `of`."""
        label = f".//label[normalize-space()='{name}{OPTIONAL}']"
        group = "ancestor::div[contains(concat(' ', @class, ' '), ' group ')][1]"
        return (of or self.page.locator("form")).locator(f"xpath={label}/{group}")

    def choices(self, name: str) -> list[str]:
        """What the list of that name offers; it is closed again."""
        self.page.get_by_role("button", name=f"Select {name}").click()
        offered = self.page.get_by_role("option")
        offered.first.wait_for()
        texts = offered.all_inner_texts()
        self.page.keyboard.press("Escape")
        expect(offered).to_have_count(0)
        return texts

    def choose(self, name: str, choice: str) -> None:
        self.page.get_by_role("button", name=f"Select {name}").click()
        self.page.get_by_role("option", name=choice, exact=True).click()

    def add_items(self, box: Locator, *texts: str) -> None:
        """Add them to the list of an otherwise empty field."""
        for place, text in enumerate(texts):
            box.get_by_role("button", name="Add item").click()
            box.get_by_role("textbox").nth(place).fill(text)

    def open_run(self, run: str) -> None:
        self.open(f"runs/flow-run/{run}?tab=Logs")

    def watch(self, state: str) -> None:
        """Look at the page of a run, which is open, until it shows that state."""
        head = self.page.get_by_label("breadcrumb").locator("xpath=..")
        expect(head.get_by_text(state, exact=True)).to_be_visible(timeout=RUN_WITHIN_MS)

    def tab(self, name: str) -> Locator:
        """Choose one of the tabs of a run's page: what it shows."""
        self.page.get_by_role("tab", name=name).click()
        return self.page.get_by_role("tabpanel", name=name)

    def menu(self, entry: str) -> None:
        """Choose an entry of the menu of a run's page."""
        self.page.get_by_role("button", name="Open menu").last.click()
        self.page.get_by_role("menuitem", name=entry, exact=True).click()

    def open_artifact(self, run: str, key: str, *, that_has: str = "") -> None:
        """Go from the run to that page of its artifacts, by clicks, once it has the text: no page renews itself."""
        of_run = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}}

        def found() -> list[str]:
            return [page["id"] for page in self.team.ask("artifacts/filter", of_run) if that_has in page["data"]]

        wait_until(found, timeout_s=RUN_WITHIN_MS / 1000)
        (artifact,) = found()
        self.open_run(run)
        self.tab("Artifacts").get_by_role("link", name=key).first.click()
        self.page.locator(f"a[href*='{artifact}']").first.click()
        self.page.get_by_role("tab", name="Raw").wait_for()

    def image_width(self, name: str) -> int:
        """Of the picture on the page, as the browser has read it: 0 for one that is broken."""
        image = self.page.get_by_role("img", name=name, exact=True)
        expect(image).to_have_js_property("complete", True)
        return int(image.evaluate("image => image.naturalWidth"))


@contextmanager
def prefect_ui(team: TeamServer, repository: Path) -> Iterator[PrefectUi]:
    """A window for the block; pictures go to $NEMOTRON_SCREENSHOTS or the repository's test-output/screenshots."""
    pictures = Path(os.environ.get("NEMOTRON_SCREENSHOTS") or repository / "test-output" / "screenshots")
    pictures.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to be run by root.
        browser = playwright.chromium.launch(executable_path=require_chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport=WINDOW)
        page.set_default_timeout(CLICK_WITHIN_MS)
        expect.set_options(timeout=CLICK_WITHIN_MS)
        yield PrefectUi(page=page, team=team, pictures=pictures)
        browser.close()
