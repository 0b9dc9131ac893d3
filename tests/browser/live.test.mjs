// Pages change while somebody looks at them, and leave alone what somebody is in the middle of.

import assert from "node:assert/strict";
import test from "node:test";

import { open, useBrowser } from "./browser.mjs";
import { useSite } from "./site.mjs";

useBrowser();
const here = useSite(async (site) => {
  site.work("default", "--concurrency", "2");
  return { site };
});

const LOOKS = 2000;
/** A request with which a page asks for news, from now on. */
const look = (page) => page.waitForResponse((answer) => answer.request().resourceType() === "fetch");

test("the end of a job is shown without a reload", async (t) => {
  const page = await open(t, here.site.url);
  const id = await here.site.hold("shown");
  await here.site.until(id, (job) => job.status === "IN_PROGRESS");
  await page.goto(`/jobs/${id}`);
  await page.evaluate(() => (window.isTheSame = true));
  assert.equal((await look(page)).status(), 304, "nothing is sent while nothing changes");
  await here.site.release("shown", { caption: "a red bicycle" });
  await page.getByText("SUCCESS").first().waitFor();
  assert.ok(await page.getByText('{"caption":"a red bicycle"}').isVisible());
  assert.equal(await page.evaluate(() => window.isTheSame), true);
});

test("what is open, written or marked stays", async (t) => {
  const page = await open(t, here.site.url);
  const first = await here.site.submit({ queue: "quiet" });
  await page.goto(`/jobs/${first}`);
  await page.getByText("Delete…").click();
  await here.site.call("POST", `/v1/jobs/${first}/cancel`);
  await page.waitForTimeout(1.5 * LOOKS);
  assert.ok(await page.getByRole("button", { name: "Delete" }).isVisible());
  assert.ok(await page.getByText("SUBMITTED").first().isVisible(), "not while it is open");
  await page.getByText("Delete…").click();
  await page.getByText("CANCELLED").first().waitFor();

  await page.goto("/jobs");
  await page.getByRole("searchbox", { name: "Find" }).fill("half a wo");
  const second = await here.site.submit({ queue: "quiet" });
  await page.waitForTimeout(1.5 * LOOKS);
  assert.equal(await page.getByRole("searchbox", { name: "Find" }).inputValue(), "half a wo");
  await page.getByRole("link", { name: "Overview", exact: true }).focus();
  await page.getByRole("link", { name: second }).waitFor();
});

test("whoever goes by the keyboard stays where they are", async (t) => {
  const page = await open(t, here.site.url);
  const id = await here.site.submit({ queue: "keys" });
  await page.goto("/");
  await page.locator("#pause-keys").focus();
  await here.site.submit({ queue: "keys" });
  await page.getByRole("table", { name: "Queues" }).getByRole("row", { name: /keys/ }).getByRole("link", { name: "2" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "pause-keys");
  await page.goto("/jobs?queue=keys");
  await page.getByRole("link", { name: id }).focus();
  const third = await here.site.submit({ queue: "keys" });
  await page.getByRole("link", { name: third }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), id);
});

test("a page whose server is gone says so, and is told when it is back", async (t) => {
  const page = await open(t, here.site.url);
  await page.goto("/");
  const stale = page.getByText("The server does not answer");
  assert.equal(await stale.isVisible(), false);
  await page.route("**/*", (route) => route.abort());
  page.expected.push("ERR_FAILED");
  await stale.waitFor();
  await page.unroute("**/*");
  await stale.waitFor({ state: "hidden" });
});
