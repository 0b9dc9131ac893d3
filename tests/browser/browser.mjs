// The browser, and what it must not do on any page.

import assert from "node:assert/strict";
import { realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before } from "node:test";

import { chromium } from "playwright-core";

export const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** The narrowest screen for which the pages are made, and an ordinary one. */
export const NARROW = { width: 360, height: 740 };
export const WIDE = { width: 1280, height: 800 };

export function launch() {
  // The pages are our own, and as root there is no sandbox.
  return chromium.launch({
    executablePath: realpathSync("chromium/chromium"),
    args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"],
  });
}

let browser;

/** The browser of a file of tests. */
export function useBrowser() {
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());
}

/**
 * A window of somebody who has not been here before. When the test is over, nothing may have gone wrong in it:
 * no message on the console, which is where violations of the policy are told, and nothing asked of anybody
 * but the server.
 */
export async function open(t, origin, options = {}) {
  const context = await browser.newContext({ viewport: WIDE, baseURL: origin, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const wrong = [];
  /** What is meant: Chromium puts each failed load on the console, with its status. */
  page.expected = [];
  page.origins = [origin];
  context.on("console", (message) => {
    const isMeant = page.expected.some((status) => message.text().includes(status));
    if (["error", "warning"].includes(message.type()) && !isMeant) wrong.push(message.text());
  });
  context.on("weberror", (error) => wrong.push(String(error.error())));
  context.on("request", (request) => {
    if (!page.origins.includes(new URL(request.url()).origin)) wrong.push(`asked elsewhere: ${request.url()}`);
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(wrong, []);
  });
  return page;
}
