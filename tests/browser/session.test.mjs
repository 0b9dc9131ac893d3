// Who sees what, with a key.

import assert from "node:assert/strict";
import test from "node:test";

import { open, useBrowser } from "./browser.mjs";
import { useSite } from "./site.mjs";

useBrowser();
const here = useSite(async (site) => {
  const id = await site.submit({ queue: "bulk" });
  const other = await site.submit({ queue: "secret" });
  const operator = await site.key("anna", "read,operate");
  const reader = await site.key("boris", "read");
  const confined = await site.key("clara", "read,operate", "--queue", "bulk");
  const submitter = await site.key("web", "submit");
  const guarded = await site.serve(site.keys);
  return { site, id, other, operator, reader, confined, submitter, guarded };
});

async function signIn(page, key) {
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
}

test("a wrong key is refused, a right one leads on, and signing out ends it", async (t) => {
  const page = await open(t, here.guarded);
  page.expected = [401];
  await page.goto(`/jobs/${here.id}`);
  assert.ok(await page.getByLabel("Key").isVisible());
  assert.equal(await page.getByLabel("Key").getAttribute("type"), "password");
  assert.equal(await page.evaluate(() => document.activeElement.id), "key", "it can be pasted at once");
  assert.ok(!(await page.content()).includes("SUBMITTED"));
  await signIn(page, "haulage_0_0");
  assert.equal(await page.getByRole("alert").innerText(), "This server does not know that key, or it has ended.");
  await signIn(page, here.operator);
  assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), `Job ${here.id}`, "where they wanted to go");
  assert.ok(await page.getByText("Key: anna").isVisible());
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.expires], [true, "Strict", -1]);
  assert.equal(await page.evaluate(() => document.cookie), "", "out of reach of scripts");

  await page.getByText("Cancel…").click();
  await page.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await page.getByRole("status").innerText(), "The job is cancelled.");
  await page.getByRole("button", { name: "Sign out" }).click();
  assert.ok(await page.getByLabel("Key").isVisible());
  assert.deepEqual(await page.context().cookies(), []);
  await page.goto("/");
  assert.ok(await page.getByLabel("Key").isVisible());
});

test("who may only read has no actions", async (t) => {
  const page = await open(t, here.guarded);
  page.expected = [401, 403];
  await page.goto("/");
  await signIn(page, here.reader);
  assert.ok(await page.getByRole("rowheader", { name: "bulk" }).first().isVisible());
  for (const path of ["/", `/jobs/${here.other}`]) {
    await page.goto(path);
    assert.equal(await page.locator("form:not([action='/sign-out'])").count(), 0, path);
    assert.equal(await page.getByText("Pause…").or(page.getByText("Cancel…")).count(), 0, path);
  }
  const status = await page.evaluate(async () => (await fetch("/queues/bulk/pause", { method: "POST" })).status);
  assert.equal(status, 403);
});

test("a key for one queue shows that one alone", async (t) => {
  const page = await open(t, here.guarded);
  page.expected = [401, 404];
  await page.goto("/");
  await signIn(page, here.confined);
  assert.deepEqual([...new Set(await page.getByRole("rowheader").allInnerTexts())], ["bulk"]);
  await page.goto(`/jobs/${here.other}`);
  assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "There is no such job");
});

test("who may not read is offered another key", async (t) => {
  const page = await open(t, here.guarded);
  page.expected = [401, 403];
  await page.goto("/");
  await signIn(page, here.submitter);
  await page.getByRole("button", { name: "Sign in with another key" }).click();
  await signIn(page, here.reader);
  assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "Overview");
});

test("a key that is revoked is asked for again while somebody looks", async (t) => {
  const page = await open(t, here.guarded);
  page.expected = [401];
  const key = await here.site.key("guest", "read");
  await page.goto("/");
  await signIn(page, key);
  await page.getByText("Key: guest").waitFor();
  await here.site.run("key", "revoke", "guest", "--keys", here.site.keys);
  await page.getByLabel("Key").waitFor();
});
