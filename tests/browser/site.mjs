// A store, a server over it, workers, and what has happened there by 3 a.m.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { appendFile, mkdtemp, writeFile } from "node:fs/promises";
import { after, before } from "node:test";
import { promisify } from "node:util";

const execute = promisify(execFile);
const { HAULAGE, WORK } = process.env;

// What it does follows from the job's task. A job that is held ends when the test writes its result into the
// pipe that its body names.
const HANDLER = `#!/usr/bin/env bash
body=$(cat)
case $HAULAGE_JOB_TASK in
    hold) exec cat "$WORK/\${body//\\"/}" ;;
    decode)
        echo 'Traceback (most recent call last):' >&2
        echo '  File "thumbnail.py", line 41, in decode' >&2
        echo 'PIL.UnidentifiedImageError: cannot identify image file' >&2
        exit 1 ;;
    slow) exec sleep 60 ;;
    fetch) echo "the bucket answers 503" >&2; exit 75 ;;
    *) echo "\${body}" ;;
esac
`;

export class Site {
  #processes = [];

  static async start() {
    const site = new Site();
    site.folder = await mkdtemp(`${WORK}/site-`);
    site.keys = `${site.folder}/keys`;
    site.store = `sqlite://${site.folder}/jobs.db`;
    await writeFile(`${site.folder}/handler.sh`, HANDLER, { mode: 0o755 });
    site.url = await site.serve();
    return site;
  }

  /** Starts a process; what it says goes into a file. */
  #spawn(name, args, env = {}) {
    const child = spawn(HAULAGE, args, {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, HAULAGE_URL: this.store, WORK: this.folder, ...env },
    });
    this.#processes.push(child);
    child.stderr.pipe(createWriteStream(`${this.folder}/${name}.log`, { flags: "a" }));
    child.exited = new Promise((resolve) => child.once("exit", resolve));
    return child;
  }

  /** A server, with the keys of a file or without. */
  async serve(keys) {
    const child = this.#spawn("serve", ["serve", "--listen", "127.0.0.1:0", ...(keys ? ["--keys", keys] : [])]);
    let said = "";
    return new Promise((resolve, reject) => {
      child.stderr.on("data", (part) => {
        said += part;
        const [url] = said.match(/http:\/\/127\.0\.0\.1:\d+/) ?? [];
        if (url && said.includes("\n")) resolve(url);
      });
      child.once("exit", () => reject(new Error(said)));
    });
  }

  work(queue, ...more) {
    const handler = ["--exec", `${this.folder}/handler.sh`, "--worker-name", `gpu-${queue}`];
    const soon = { HAULAGE_RETRY_BASE: "10ms" };
    return this.#spawn("worker", ["worker", "--queue", queue, ...handler, ...more], soon);
  }

  async run(...args) {
    const { stdout } = await execute(HAULAGE, args, { env: { ...process.env, HAULAGE_URL: this.store } });
    return stdout.trim();
  }

  /** The answer of a call, which has to succeed. */
  async call(method, path, body) {
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    const answer = await fetch(this.url + path, { method, headers, body: JSON.stringify(body) });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${answer.ok ? "" : await answer.text()}`);
    return answer.json();
  }

  async submit(job) {
    return (await this.call("POST", "/v1/jobs", { body: null, ...job })).id;
  }

  /** Many, by lines. */
  async submitAll(jobs) {
    const answer = await fetch(`${this.url}/v1/jobs`, {
      method: "POST",
      headers: { "Content-Type": "application/jsonl" },
      body: jobs.map((job) => JSON.stringify({ body: null, ...job })).join("\n"),
    });
    const lines = (await answer.text()).trim().split("\n").map((line) => JSON.parse(line));
    for (const line of lines) assert.ok(line.id, JSON.stringify(line));
    return lines.map((line) => line.id);
  }

  /** Waits until a job is as it should be: each answer comes with a change. */
  async until(id, isThere) {
    let tag = "";
    for (;;) {
      const answer = await fetch(`${this.url}/v1/jobs/${id}?wait=60`, { headers: { "If-None-Match": tag } });
      assert.notEqual(answer.status, 304, `${id} has not come that far`);
      tag = answer.headers.get("etag");
      const job = await answer.json();
      if (isThere(job)) return job;
    }
  }

  ended(id) {
    return this.until(id, (job) => ["SUCCESS", "ERROR", "CANCELLED"].includes(job.status));
  }

  /** A job that runs until it is let go. */
  async hold(name, job = {}) {
    await execute("mkfifo", [`${this.folder}/${name}`]);
    return this.submit({ ...job, task: "hold", body: name });
  }

  release(name, result = "done") {
    return appendFile(`${this.folder}/${name}`, JSON.stringify(result));
  }

  /** Makes a key with these scopes, for `serve(site.keys)`. */
  key(name, scope, ...more) {
    return this.run("key", "create", "--name", name, "--scope", scope, "--keys", this.keys, ...more);
  }

  async stop() {
    for (const child of this.#processes) child.kill("SIGKILL");
    await Promise.all(this.#processes.map((child) => child.exited));
  }
}

/** A site for a file of tests, and what has happened there. */
export function useSite(prepare) {
  const here = {};
  before(async () => {
    here.site = await Site.start();
    Object.assign(here, await prepare?.(here.site));
  });
  after(() => here.site?.stop());
  return here;
}

/**
 * What somebody finds who is woken up: a queue that is paused, one that nobody serves, jobs that are late on
 * purpose, a group whose first job takes its time, and dead letters of two kinds.
 */
export async function night(site, { done = 3 } = {}) {
  const jobs = {};
  jobs.dead = [];
  for (const name of ["beach.heic", "moon.heic", "cat.heic"]) {
    const user = name.startsWith("cat") ? "boris" : "anna";
    const body = { image: `uploads/${name}`, width: 320 };
    const metadata = { user };
    jobs.dead.push(await site.submit({ queue: "thumbnails", task: "decode", body, metadata, max_attempts: 2 }));
  }
  jobs.late = await site.submit({ queue: "thumbnails", task: "slow", timeout: "200ms", max_attempts: 1 });
  jobs.done = await site.submitAll(
    [...Array(done).keys()].map((n) => ({ queue: "thumbnails", task: "resize", body: { image: `uploads/${n}.jpg` } })),
  );
  const first = site.work("thumbnails", "--concurrency", "2");
  for (const id of [...jobs.dead, jobs.late, ...jobs.done]) await site.ended(id);
  first.kill("SIGKILL");

  // One slot, which is taken: what comes after waits for its turn.
  jobs.running = await site.hold("running", { queue: "thumbnails", request_id: "order-4711" });
  site.work("thumbnails", "--concurrency", "1");
  await site.until(jobs.running, (job) => job.status === "IN_PROGRESS");
  jobs.next = await site.submit({ queue: "thumbnails", task: "resize", body: { image: "uploads/50.jpg" } });
  jobs.second = await site.submit({ queue: "thumbnails", task: "resize", body: { image: "uploads/51.jpg" } });
  jobs.third = await site.submit({ queue: "thumbnails", task: "resize", metadata: { user: "anna" } });

  const call = { queue: "transcripts", task: "transcribe", metadata: { team: "support" } };
  jobs.paused = await site.submit({ ...call, request_id: "call-17", body: { audio: "call-17.opus", language: "de" } });
  jobs.pausedLater = await site.submit({ ...call, body: { audio: "call-18.opus" }, delay: "1h" });
  await site.call("POST", "/v1/queues/transcripts/pause");

  jobs.unserved = await site.submit({ queue: "embeddings", body: { text: "the quick brown fox" } });

  const account = { queue: "reports", group: "account-7", task: "monthly" };
  jobs.head = await site.hold("report", { ...account, request_id: "report-7" });
  jobs.behind = await site.submit({ ...account, body: { month: "2026-10" } });
  jobs.last = await site.submit({ ...account, body: { month: "2026-11" } });
  site.work("reports", "--concurrency", "1");
  await site.until(jobs.head, (job) => job.status === "IN_PROGRESS");
  jobs.delayed = await site.submit({ queue: "reports", task: "weekly", delay: "5h" });

  jobs.retry = await site.submit({ queue: "previews", task: "decode", max_attempts: 3 });
  site.work("previews", "--retry-base", "10h", "--retry-cap", "24h");
  await site.until(jobs.retry, (job) => job.attempt === 1 && job.status === "SUBMITTED");
  return { jobs };
}
