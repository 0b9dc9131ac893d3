// What a program does with the client that was generated from /openapi.json: it is checked against the
// generated types, and run against a server with a worker.

import assert from "node:assert/strict";
import test from "node:test";

import { getJobs, getJobsOne, getJobsOneEvents, getJobsOneResult, postJobs, postJobsOneCancel } from "./client";
import type { Submission } from "./client";
import { client } from "./client/client.gen";

client.setConfig({ baseUrl: process.env.HAULAGE_URL, auth: process.env.HAULAGE_KEY });

/** Submits a job, and gives its id. */
async function submit(body: Submission): Promise<string> {
  const { data, error, response } = await postJobs({ body });
  assert.ok(data && response?.status === 202, JSON.stringify(error));
  assert.equal(response.headers.get("location"), `/v1/jobs/${data.id}`);
  return data.id;
}

test("a submit waits for its result", async () => {
  const body = { prompt: "a red bicycle", steps: [1, 2.5, null] };
  const { data, error } = await postJobs({
    body: { body, queue: "bulk", timeout: "5m", metadata: { team: "vision" } },
    headers: { Prefer: "wait=60" },
  });
  assert.ok(data && "status" in data, JSON.stringify(error ?? data));
  assert.equal(data.status, "SUCCESS");
  assert.deepEqual(data.result, body);
  assert.deepEqual(data.metadata, { team: "vision", "haulage.key": "web" });
});

test("a job is waited for, and its result is there", async () => {
  const id = await submit({ body: "a blue one", queue: "bulk" });
  const { data, error } = await getJobsOne({ path: { id }, query: { wait: 60, body: true } });
  assert.ok(data, JSON.stringify(error));
  assert.deepEqual([data.status, data.attempt, data.body], ["SUCCESS", 1, "a blue one"]);
  const result = await getJobsOneResult({ path: { id }, query: { wait: "1m" } });
  assert.equal(result.data, "a blue one");
  const { stream } = await getJobsOneEvents({ path: { id } });
  let last: unknown;
  for await (const event of stream) {
    last = event;
  }
  assert.equal((last as { status: string }).status, "SUCCESS");
});

test("a job that waits is cancelled, once", async () => {
  const id = await submit({ body: 1, delay: "1h" });
  const cancelled = await postJobsOneCancel({ path: { id } });
  assert.deepEqual(cancelled.data, { id, cancellation: "done" });
  const again = await postJobsOneCancel({ path: { id } });
  assert.deepEqual([again.error?.status, again.error?.job_status], [409, "CANCELLED"]);
  const { data } = await getJobsOne({ path: { id } });
  assert.equal(data?.status, "CANCELLED");
  const listed = await getJobs({ query: { status: "CANCELLED", limit: 10 } });
  assert.ok(listed.data?.jobs.some((job) => job.id === id));
});

test("what is wrong is told as the document says", async () => {
  const { error, response } = await postJobs({ body: { body: 1, queue: "two words" } });
  assert.equal(response?.status, 422);
  assert.equal(error?.field, "queue");
  const missing = await getJobsOne({ path: { id: "none" } });
  assert.equal(missing.error?.type, "haulage:not_found");
  const refused = await postJobs({ body: { body: 1 }, auth: "haulage_0_0" });
  assert.equal(refused.error?.status, 401);
});
