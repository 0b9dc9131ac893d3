// Somebody is woken up because nothing runs: what they see, and what they can do about it.

import assert from "node:assert/strict";
import test from "node:test";

import { open, useBrowser } from "./browser.mjs";
import { night, useSite } from "./site.mjs";

useBrowser();
const here = useSite(async (site) => ({ site, ...(await night(site)) }));

const heading = (page) => page.getByRole("heading", { level: 1 }).textContent();
/** Why a job waits, as its page says it. */
const why = (page) => page.locator(".why p").first().innerText();
const row = (page, queue) =>
  page.getByRole("table", { name: "Queues" }).getByRole("row").filter({ has: page.getByRole("rowheader", { name: queue }) });
/** What an action has come to. */
const said = (page) => page.getByRole("status").innerText();

test("each job that waits says why", async (t) => {
  const page = await open(t, here.site.url);
  const { jobs } = here;
  const turn = "other jobs of the queue thumbnails are due before it.";
  for (const [name, sentence] of [
    ["paused", "The queue transcripts is paused."],
    ["pausedLater", /^The queue transcripts is paused, and the job is not due before \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.$/],
    ["unserved", "No worker seems to take jobs from the queue embeddings: none of its jobs is running."],
    ["behind", `An earlier job of the group account-7 is not over yet: ${jobs.head} is IN_PROGRESS.`],
    ["last", `An earlier job of the group account-7 is not over yet: ${jobs.head} is IN_PROGRESS.`],
    ["delayed", /^It was delayed, and is due at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.$/],
    ["retry", /^Attempt 1 of 3 failed, and the next one is due at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.$/],
    ["next", "It is the next job of the queue thumbnails, and waits for a worker with a free slot."],
    ["second", "One other job of the queue thumbnails is due before it."],
    ["third", `2 ${turn}`],
  ]) {
    await page.goto(`/jobs/${jobs[name]}`);
    const told = (await why(page)).replace(/^Why it waits:\s*/, "");
    if (sentence instanceof RegExp) assert.match(told, sentence);
    else assert.ok(told.startsWith(sentence), `${name}: ${told}`); // It may go on with when the job is likely to start.
  }
  await page.goto(`/jobs/${jobs.running}`);
  assert.equal(await page.locator(".why").count(), 0, "it runs");
});

test("a paused queue is found from the first page, and goes on", async (t) => {
  const page = await open(t, here.site.url);
  await page.goto("/");
  const paused = row(page, "transcripts");
  assert.match(await paused.innerText(), /paused/i);
  await paused.getByText("Resume…").click();
  assert.ok(await paused.getByText("Workers take jobs from the queue transcripts again.").isVisible());
  assert.ok(await paused.getByText("haulage queue resume transcripts").isVisible());
  assert.ok(await paused.getByText("$HAULAGE_URL/v1/queues/transcripts/resume").isVisible());
  await paused.getByRole("button", { name: "Resume" }).click();
  assert.equal(await said(page), "The queue goes on.");
  assert.equal(new URL(page.url()).search, "", "a reload does not say it again");
  assert.doesNotMatch(await row(page, "transcripts").innerText(), /paused/i);

  await row(page, "transcripts").getByText("Pause…").click();
  await row(page, "transcripts").getByRole("button", { name: "Pause" }).click();
  assert.match(await said(page), /^The queue is paused/);
  const { queues } = await here.site.call("GET", "/v1/queues");
  assert.equal(queues.transcripts.is_paused ?? queues.transcripts.paused, true);
});

test("a queue of which nothing runs stands out", async (t) => {
  const page = await open(t, here.site.url);
  await page.goto("/");
  // It does after ten seconds.
  await row(page, "embeddings").getByText("nothing runs").waitFor();
  for (const queue of ["thumbnails", "reports", "transcripts"]) {
    assert.equal(await row(page, queue).getByText("nothing runs").count(), 0, queue);
  }
});

test("the last day is shown by queue, as far as it was seen", async (t) => {
  const page = await open(t, here.site.url);
  await page.goto("/");
  // Once a minute there is something new.
  const day = page.getByRole("table", { name: "The last day" });
  const embeddings = day.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "embeddings" }) });
  await embeddings.getByText("1 at most").waitFor({ timeout: 90_000 });
  assert.ok((await embeddings.locator("svg.due path").boundingBox()).width > 1);
  assert.ok(await page.getByText(/^Each bar is a quarter of an hour .* it has not seen\.$/).isVisible());
});

test("a queue is let go on from a job that waits for it", async (t) => {
  const page = await open(t, here.site.url);
  await page.goto(`/jobs/${here.jobs.paused}`);
  await page.getByText("Resume…").click();
  await page.getByRole("button", { name: "Resume" }).click();
  assert.equal(await said(page), "The queue goes on.");
  await here.site.call("POST", "/v1/queues/transcripts/pause");
});

test("a number leads to its jobs, and a job's queue and group to theirs", async (t) => {
  const page = await open(t, here.site.url);
  await page.goto("/");
  await row(page, "embeddings").getByRole("link", { name: "1", exact: true }).click();
  assert.equal(await heading(page), "Jobs");
  const links = page.getByRole("table").getByRole("link");
  assert.deepEqual(await links.allTextContents(), [here.jobs.unserved]);
  await links.click();
  assert.equal(await heading(page), `Job ${here.jobs.unserved}`);
  await page.goto(`/jobs/${here.jobs.behind}`);
  await page.locator(".why").getByRole("link", { name: here.jobs.head }).click();
  assert.equal(await heading(page), `Job ${here.jobs.head}`);
  await page.getByRole("definition").getByRole("link", { name: "account-7" }).click();
  assert.deepEqual(await links.allTextContents(), [here.jobs.last, here.jobs.behind, here.jobs.head]);
});

test("a job is found by its id, the beginning of it, its request id and a label", async (t) => {
  const page = await open(t, here.site.url);
  const { jobs } = here;
  const find = async (text) => {
    await page.goto("/jobs");
    await page.getByRole("searchbox", { name: "Find" }).fill(text);
    await page.keyboard.press("Enter");
    await page.waitForURL((url) => url.search !== "" || url.pathname !== "/jobs");
    return heading(page);
  };
  assert.equal(await find(jobs.late), `Job ${jobs.late}`);
  const found = async () => (await page.getByRole("table").getByRole("link").allTextContents()).sort();
  assert.equal(await find("order-4711"), "Jobs");
  assert.deepEqual(await found(), [jobs.running]);
  await find("user=anna");
  assert.deepEqual(await found(), [jobs.dead[0], jobs.dead[1], jobs.third].sort());
  await find(jobs.late.slice(0, -3));
  assert.deepEqual(await found(), [jobs.late]);
  await find("nothing of this kind");
  assert.ok(await page.getByText("No job is like that.").isVisible());

  await page.goto("/jobs");
  await page.getByRole("navigation", { name: "Status" }).getByRole("link", { name: "ERROR" }).click();
  await page.getByText("Filter by queue, task, label and more").click();
  await page.getByLabel("Label").fill("user=boris");
  await page.getByRole("button", { name: "Filter" }).click();
  assert.deepEqual(await found(), [jobs.dead[2]]);
  assert.equal(await page.getByLabel("Label").inputValue(), "user=boris", "it says what is shown");
});

test("dead letters are together by what they died of, and go back to work as one", async (t) => {
  const page = await open(t, here.site.url);
  await page.goto("/");
  await row(page, "thumbnails").getByRole("link", { name: "4", exact: true }).last().click();
  assert.match(await page.getByRole("main").innerText(), /4 jobs have used up their attempts, for 2 different reasons\./);
  const groups = page.getByRole("region", { name: "×" });
  assert.equal(await groups.count(), 2);
  const decode = groups.first();
  assert.match(await decode.getByRole("heading").innerText(), /^3 × handler/);
  assert.match(await decode.innerText(), /cannot identify image file/);
  assert.match(await groups.last().getByRole("heading").innerText(), /^1 × timeout/);

  // The number comes first.
  const button = decode.getByRole("button", { name: "Redrive 3 jobs" });
  assert.equal(await button.isVisible(), false);
  await decode.getByText("Redrive 3 jobs…").click();
  assert.ok(await decode.getByText("3 jobs will wait again, with all attempts").isVisible());
  assert.ok(await decode.getByText("haulage dead list --json").isVisible());
  await button.click();
  assert.equal(await said(page), "3 jobs wait again, with all their attempts.");
  assert.equal(await page.getByRole("region", { name: "×" }).count(), 1);
  for (const id of here.jobs.dead) {
    assert.equal((await here.site.call("GET", `/v1/jobs/${id}`)).status, "SUBMITTED");
  }
});

test("a job that waits is cancelled, run again, cancelled and deleted", async (t) => {
  const page = await open(t, here.site.url);
  const id = await here.site.submit({ queue: "transcripts" });
  const act = async (name) => {
    await page.getByText(`${name}…`, { exact: true }).click();
    await page.getByRole("button", { name, exact: true }).click();
    return said(page);
  };
  await page.goto(`/jobs/${id}`);
  await page.getByText("Cancel…").click();
  assert.ok(await page.getByText("It will not be run. This cannot be undone.").isVisible());
  assert.ok(await page.getByText(`haulage cancel ${id}`).isVisible());
  await page.getByText("Cancel…").click();
  assert.equal(await page.getByRole("button", { name: "Cancel" }).isVisible(), false, "it was thought better of");
  assert.equal(await act("Cancel"), "The job is cancelled.");
  assert.equal(await act("Run again"), "The job waits again, with all its attempts.");
  assert.match(await why(page), /The queue transcripts is paused\./);
  assert.equal(await act("Cancel"), "The job is cancelled.");
  assert.equal(await act("Delete"), "The job is deleted.");
  page.expected = [404];
  await page.goto(`/jobs/${id}`);
  assert.equal(await heading(page), "There is no such job");
});

test("a job that runs is asked to stop, and its worker is shown", async (t) => {
  const page = await open(t, here.site.url);
  const id = await here.site.hold("asked", { queue: "asked" });
  here.site.work("asked", "--cancel-grace-period", "1s");
  await here.site.until(id, (job) => job.status === "IN_PROGRESS");
  await page.goto("/workers");
  assert.ok(await page.getByRole("heading", { name: "gpu-asked" }).isVisible());
  await page.getByRole("link", { name: id }).click();
  await page.getByText("Cancel…").click();
  assert.ok(await page.getByText("Its worker is asked to stop it").isVisible());
  await page.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await said(page), "The worker of the job has been asked to stop it.");
  // It ends while somebody looks at it.
  await page.getByText("CANCELLED").first().waitFor();
});
