// The pictures of the documentation: what somebody finds who is woken up at 3 a.m.

import { realpathSync, statSync } from "node:fs";

import { launch } from "./browser.mjs";
import { Site, night } from "./site.mjs";

const MOST_BYTES = 60_000;
const site = await Site.start();
try {
  const { jobs } = await night(site, { done: 40 });
  const browser = await launch();
  const context = await browser.newContext({ baseURL: site.url, colorScheme: "light" });
  const page = await context.newPage();
  /** The top of a page, as far as this and so many pixels below. */
  const shoot = async (name, path, width, last, { below, prepare }) => {
    await page.setViewportSize({ width, height: 800 });
    await page.goto(path);
    await prepare?.();
    const { y, height } = await page.locator(last).first().boundingBox();
    const file = `${realpathSync(process.env.PICTURES)}/page-${name}.png`;
    await page.screenshot({ path: file, clip: { x: 0, y: 0, width, height: Math.ceil(y + height) + below } });
    if (statSync(file).size > MOST_BYTES) throw new Error(`${file} is larger than ${MOST_BYTES} bytes`);
    console.log(file);
  };
  await shoot("overview", "/", 1024, "table", { below: 20, prepare: () => page.getByText("nothing runs").waitFor() });
  await shoot("job", `/jobs/${jobs.paused}`, 1024, "h2:has-text('Body') + pre", { below: 20 });
  await shoot("dead", "/dead", 800, ".panel pre", { below: 2, prepare: () => page.getByText("Redrive 3 jobs…").click() });
  await browser.close();
} finally {
  await site.stop();
}
