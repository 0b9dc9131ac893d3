//! `haulage worker`

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use clap::{ArgMatches, parser::ValueSource};
use haulage::{
    Consumer, Context, Failure, Job, Json, Queues, RetryPolicy, backend::Backend, consumer::Event,
    metrics::Meter,
};

use super::{
    devices::DeviceArgs,
    monitoring::MonitoringArgs,
    program::ProgramArgs,
    python,
    stop::{Heard, Stop},
    summary,
};
use crate::{
    env,
    exit::{Code, Exit, Result},
    handlers::{Exec, Handler, Headers, Http},
    logging, options,
    output::LogFormat,
    pool::Pool,
    session::Session,
};

/// How often the worker shows that its main thread is alive.
const SHOW_LIFE: Duration = Duration::from_secs(5);

/// Run jobs: each with a program, or through an HTTP server
///
/// A program gets the body on stdin and writes the result, as JSON, to stdout, or to the file that
/// the variable HAULAGE_RESULT names; in that case stdout is logged. It ends with 0 if it
/// succeeded, with 65 if trying again would not help, with 75 if what it runs on is broken, and with
/// anything else if trying again might help; the end of what it wrote to stderr is the job's error.
///
/// A server gets the body by POST, with the headers X-Haulage-Job-Id, X-Haulage-Attempt,
/// X-Request-Id and, where the job has a task, X-Haulage-Task, and answers with the result as JSON; an empty 2xx answer is `null`. 408, 429, other 5xx than 503, and
/// an answer that is lost are tried again, after the time in Retry-After if it is there, but no later than
/// --retry-cap; any other answer but 2xx fails the job.
///
/// A job that takes long can leave a checkpoint, any JSON of up to 64 KiB, for its next attempt. A
/// program writes it to the file that the variable HAULAGE_CHECKPOINT names, and finds the last one
/// there. A server returns it in the header X-Haulage-Checkpoint, and is sent the last one in the
/// same header, if that has 4 KiB at most.
///
/// A program that cannot be started, a server that cannot be reached, and the answer 503 cost a
/// job no attempt. The worker gives the job back and claims no more until it can go on; it
/// tries by itself, after one second at first and one minute at most.
///
/// A GPU that breaks, or anything else that the program or the server runs on, costs a job no
/// attempt either. The program says so by exit code 75, or with --gpus by naming the device on stderr
/// (`CUDA error`); the server by the header X-Haulage-Worker-Broken. The second time in a row, that GPU,
/// or without --gpus the whole worker, takes no more jobs until --health-check succeeds; then one job
/// is tried. When nothing has worked for --quarantine-limit, the worker ends with code 75.
///
/// A Python function gets the body and returns the result. Tasks, functions under `@haulage.task`, get
/// the jobs that name them: all those of a module, or of an app in it. Where this command came with the
/// Python package, that Python runs them; otherwise it is the python3 of the PATH, which needs the
/// package `haulage`.
///
/// SIGTERM, SIGHUP or Ctrl-C stops the worker when its jobs are done, or are given back after the
/// grace period; a second one stops it at once. It ends by itself with --until-empty, for a batch of
/// jobs that is there already, and with --max-jobs, for a program around it that starts it again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage worker --exec 'python infer.py'\n  \
                  haulage worker --concurrency 4 -- ./classify --model weights.bin\n  \
                  haulage worker --until-empty --exec ./resize\n  \
                  haulage worker --gpus all --exec 'python infer.py'\n  \
                  haulage worker --queue interactive --queue bulk --exec ./infer\n  \
                  haulage worker --http http://localhost:8080/invocations --http-ready /ping\n  \
                  haulage worker --python package.module:function --processes 4\n  \
                  haulage worker --python package.module",
    override_usage = "haulage worker [OPTIONS] --exec <COMMAND>\n       haulage worker [OPTIONS] -- <COMMAND>...\n       \
                      haulage worker [OPTIONS] --shell <LINE>\n       haulage worker [OPTIONS] --http <URL>\n       \
                      haulage worker [OPTIONS] --python <MODULE[:NAME]>"
)]
pub(crate) struct Args {
    #[command(flatten)]
    work: WorkArgs,

    #[arg(
        long, value_name = "NAME[=WEIGHT]", value_delimiter = ',',
        env = env::QUEUE.name, default_value = env::QUEUE.fallback(), help = env::QUEUE.help
    )]
    queue: Vec<String>,

    #[arg(
        long, value_name = "NUMBER",
        env = env::CONCURRENCY.name, default_value = env::CONCURRENCY.fallback(), help = env::CONCURRENCY.help
    )]
    concurrency: usize,

    #[arg(long, env = env::UNTIL_EMPTY.name, help = env::UNTIL_EMPTY.help)]
    until_empty: bool,

    #[arg(long, value_name = "NUMBER", env = env::MAX_JOBS.name, help = env::MAX_JOBS.help)]
    max_jobs: Option<u64>,

    #[arg(long, value_name = "NAME", env = env::WORKER_NAME.name, help = env::WORKER_NAME.help)]
    worker_name: Option<String>,

    #[command(flatten)]
    devices: DeviceArgs,

    #[command(flatten)]
    python: python::PythonArgs,

    #[command(flatten)]
    program: ProgramArgs,

    #[command(flatten)]
    timing: Timing,

    #[command(flatten)]
    monitoring: MonitoringArgs,

    #[arg(
        long, value_name = "FILTER",
        env = env::LOG.name, default_value = env::LOG.fallback(), help = env::LOG.help
    )]
    log: String,

    #[arg(
        long, value_name = "FORMAT", value_enum,
        env = env::LOG_FORMAT.name, default_value = env::LOG_FORMAT.fallback(), help = env::LOG_FORMAT.help
    )]
    log_format: LogFormat,
}

#[derive(Debug, clap::Args)]
struct WorkArgs {
    /// Program to run for each job, split into words as a shell does but never run by one
    /// [env: HAULAGE_EXEC]
    #[arg(long, value_name = "COMMAND", num_args = 0..=1, default_missing_value = "")]
    exec: Option<String>,

    /// Line for `sh -c` to run for each job [env: HAULAGE_SHELL]
    #[arg(long, value_name = "LINE", conflicts_with_all = ["exec", "http", "command"])]
    shell: Option<String>,

    /// URL to POST each job's body to [env: HAULAGE_HTTP]
    #[arg(long, value_name = "URL", conflicts_with_all = ["exec", "command"])]
    http: Option<String>,

    /// Python function to run for each job, as package.module:function, or a module, whose tasks it
    /// serves [env: HAULAGE_PYTHON]
    #[arg(long, value_name = "MODULE[:NAME]", conflicts_with_all = ["exec", "shell", "http", "command"])]
    python: Option<String>,

    #[arg(long, value_name = "PATH", env = env::HTTP_READY.name, help = env::HTTP_READY.help)]
    http_ready: Option<String>,

    #[arg(
        long, value_name = "NAME: VALUE", hide_env_values = true,
        env = env::HTTP_HEADER.name, help = env::HTTP_HEADER.help
    )]
    http_header: Option<String>,

    #[arg(long, value_name = "FILE", env = env::HTTP_HEADER_FILE.name, help = env::HTTP_HEADER_FILE.help)]
    http_header_file: Option<PathBuf>,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::HTTP_TIMEOUT.name, default_value = env::HTTP_TIMEOUT.fallback(), help = env::HTTP_TIMEOUT.help
    )]
    http_timeout: Duration,

    /// The program and its arguments, or more arguments for the one of --exec
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Timing")]
struct Timing {
    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::LEASE.name, default_value = env::LEASE.fallback(), help = env::LEASE.help
    )]
    lease: Duration,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::HEARTBEAT_INTERVAL.name, help = env::HEARTBEAT_INTERVAL.help
    )]
    heartbeat_interval: Option<Duration>,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::CLAIM_WAIT.name, default_value = env::CLAIM_WAIT.fallback(), help = env::CLAIM_WAIT.help
    )]
    claim_wait: Duration,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::SHUTDOWN_GRACE_PERIOD.name, default_value = env::SHUTDOWN_GRACE_PERIOD.fallback(),
        help = env::SHUTDOWN_GRACE_PERIOD.help
    )]
    shutdown_grace_period: Duration,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::CANCEL_GRACE_PERIOD.name, default_value = env::CANCEL_GRACE_PERIOD.fallback(),
        help = env::CANCEL_GRACE_PERIOD.help
    )]
    cancel_grace_period: Duration,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::RETRY_BASE.name, default_value = env::RETRY_BASE.fallback(), help = env::RETRY_BASE.help
    )]
    retry_base: Duration,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::RETRY_CAP.name, default_value = env::RETRY_CAP.fallback(), help = env::RETRY_CAP.help
    )]
    retry_cap: Duration,
}

impl Timing {
    /// All of it, by name.
    fn all(&self) -> [(&'static str, Option<Duration>); 7] {
        [
            ("lease", Some(self.lease)),
            ("heartbeat_interval", self.heartbeat_interval),
            ("claim_wait", Some(self.claim_wait)),
            ("shutdown_grace_period", Some(self.shutdown_grace_period)),
            ("cancel_grace_period", Some(self.cancel_grace_period)),
            ("retry_base", Some(self.retry_base)),
            ("retry_cap", Some(self.retry_cap)),
        ]
    }
}

/// What to do with a job.
enum Work {
    Exec { line: String, more: Vec<OsString> },
    Shell(String),
    Http(String),
    Python,
}

impl WorkArgs {
    /// The choice; flags go before the environment as a whole.
    fn choose(&self) -> Result<Work> {
        let more = self.command.clone();
        match (self.exec.clone(), self.shell.clone(), self.http.clone()) {
            (Some(line), _, _) => return Ok(Work::Exec { line, more }),
            (_, Some(line), _) => return Ok(Work::Shell(line)),
            (_, _, Some(url)) => return Ok(Work::Http(url)),
            _ if self.python.is_some() => return Ok(Work::Python),
            _ if !more.is_empty() => return Ok(Work::Exec { line: String::new(), more }),
            _ => {}
        }
        match (env::EXEC.read(), env::SHELL.read(), env::HTTP.read(), env::PYTHON.read()) {
            (Some(line), None, None, None) => Ok(Work::Exec { line, more }),
            (None, Some(line), None, None) => Ok(Work::Shell(line)),
            (None, None, Some(url), None) => Ok(Work::Http(url)),
            (None, None, None, Some(_)) => Ok(Work::Python),
            (None, None, None, None) => Err(Exit::usage(
                "nothing says how to run a job; give one of --exec COMMAND, --shell LINE, --http URL, \
                 --python MODULE[:NAME] or -- COMMAND",
            )),
            _ => Err(Exit::usage(
                "more than one of HAULAGE_EXEC, HAULAGE_SHELL, HAULAGE_HTTP and HAULAGE_PYTHON is set; set one",
            )),
        }
    }

    /// Refuses what would do nothing, where there is no server.
    fn refuse_http(&self) -> Result {
        for (flag, given) in [
            ("--http-ready", self.http_ready.is_some()),
            ("--http-header", self.http_header.is_some()),
            ("--http-header-file", self.http_header_file.is_some()),
        ] {
            if given {
                return Err(Exit::usage(format!("{flag} goes with --http, and there is none")));
            }
        }
        Ok(())
    }

    fn handler(&mut self, work: Work, program: &ProgramArgs) -> Result<Handler> {
        if !matches!(work, Work::Http(_)) {
            self.refuse_http()?;
        }
        let exec = match work {
            Work::Exec { line, more } => Exec::new(&line, more)?,
            Work::Shell(line) => Exec::shell(&line)?,
            Work::Http(url) => {
                program.refuse()?;
                let headers = Headers::new(self.http_header.take(), self.http_header_file.take())?;
                let http = Http::new(&url, self.http_ready.as_deref())?;
                return Ok(Handler::Http(Box::new(http.asked(headers, self.http_timeout))));
            }
            Work::Python => {
                program.refuse()?;
                return Err(python::become_python());
            }
        };
        Ok(Handler::Exec(exec.confined(program.confinement()?, program.log_limit())))
    }
}

/// Which of the options of a command were given, by a flag or a variable, and
/// are no defaults.
#[derive(Debug)]
pub(crate) struct Given(pub(crate) Option<ArgMatches>);

impl Given {
    /// By the name of the field.
    pub(crate) fn has(&self, option: &str) -> bool {
        let source = self.0.as_ref().and_then(|matches| matches.value_source(option));
        source.is_some_and(|source| source != ValueSource::DefaultValue)
    }
}

/// How long a worker that is to stop waits for what it is opening.
const OPENING: Duration = Duration::from_secs(1);

impl Args {
    /// How the lines of the log look.
    pub(crate) const fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// What a worker in Python is to do, under the names that `haulage.Worker`
    /// has for it, where a Python function runs the jobs. What was not given is
    /// left out: the function may have a say.
    pub(crate) fn for_python(
        &self,
        url: &str,
        json: bool,
        given: &Given,
    ) -> Result<Option<serde_json::Value>> {
        if !matches!(self.work.choose()?, Work::Python) {
            return Ok(None);
        }
        self.work.refuse_http()?;
        self.program.refuse()?;
        let queues = Queues::parse(&self.queue)?;
        let timing = &self.timing;
        let mut options = serde_json::Map::new();
        let mut option = |name: &str, field: &str, value: serde_json::Value| {
            if given.has(field) {
                options.insert(name.to_owned(), value);
            }
        };
        option("url", "url", url.into());
        option("queues", "queue", queues.to_string().into());
        option("concurrency", "concurrency", self.concurrency.into());
        option("until_empty", "until_empty", self.until_empty.into());
        option("max_jobs", "max_jobs", self.max_jobs.into());
        option("worker_name", "worker_name", self.worker_name.clone().into());
        let more = self.python.options().into_iter().chain(self.devices.options());
        for (name, value) in more.chain(self.monitoring.options()) {
            option(name, name, value);
        }
        for (name, duration) in timing.all() {
            option(name, name, duration.map(|duration| duration.as_secs_f64()).into());
        }
        let function = self.work.python.clone().or_else(|| env::PYTHON.read());
        Ok(Some(serde_json::json!({
            "function": function,
            "options": options,
            "json": json,
            "log": self.log,
            "log_format": self.log_format.name(),
            "log_limit": self.program.log_limit(),
        })))
    }

    pub(crate) async fn run(mut self, session: &Session) -> Result {
        let work = self.work.choose()?;
        self.python.check(matches!(work, Work::Python))?;
        let queues = Queues::parse(&self.queue)?;
        let has_program = !matches!(work, Work::Http(_));
        let handler = self.work.handler(work, &self.program)?;
        let slots = self.devices.slots(self.concurrency, has_program)?;
        logging::start(&self.log, self.log_format)?;
        let monitoring = self.monitoring.open(&session.url)?;
        let stop = Stop::listen(tell)?;
        let mut opening = std::pin::pin!(session.backend());
        let backend = tokio::select! {
            backend = &mut opening => backend?,
            () = stop.stopping() => {
                // What is nearly open can be closed then, and leaves no log behind.
                let _ = tokio::time::timeout(OPENING, opening).await;
                return stop.ending();
            }
        };
        let limit = backend.capabilities().max_payload;
        let handler = handler.serving(&session.url, limit, self.timing.retry_cap, stop.shutdown())?;
        let gpus = (!slots.gpus.is_empty()).then(|| slots.gpus.join(","));
        tracing::info!(
            url = session.url, work = %handler, concurrency = slots.slots, gpus, %queues, "worker starts"
        );
        let pool = Pool::new(slots, handler, stop.shutdown());
        let consumer = self.consumer(backend, &pool, queues)?;
        let monitoring = monitoring.start(&consumer.meter())?;
        tokio::spawn(show_life(consumer.meter()));
        let summary = consumer.run(stop.shutdown()).await;
        monitoring.finish();
        summary::report(session.output, &summary)?;
        stop.ending()?;
        match pool.broken() {
            None => Ok(()),
            Some(why) => Err(Exit::new(
                Code::WorkerBroken,
                format!("the worker is broken, and ends; run it elsewhere: {why}"),
            )),
        }
    }

    fn consumer(&self, backend: Arc<dyn Backend>, pool: &Pool, queues: Queues) -> Result<Consumer> {
        let timing = &self.timing;
        let mut builder = Consumer::builder(backend)
            .concurrency(pool.slots())
            .queues(queues)
            .until_empty(self.until_empty)
            .lease(timing.lease)
            .claim_wait(timing.claim_wait)
            .shutdown_grace_period(timing.shutdown_grace_period)
            .cancel_grace_period(timing.cancel_grace_period)
            .retry_policy(RetryPolicy { base: timing.retry_base, cap: timing.retry_cap });
        if let Some(interval) = timing.heartbeat_interval {
            builder = builder.heartbeat_interval(interval);
        }
        if let Some(jobs) = self.max_jobs {
            builder = builder.max_jobs(jobs);
        }
        if let Some(name) = &self.worker_name {
            builder = builder.worker_name(name.clone());
        }
        // Everything else that is worth a line, the consumer logs itself.
        builder = builder.on_event(|event| {
            if let Event::Succeeded { id, attempt, took } = event {
                tracing::info!(job_id = %id, attempt, ?took, "succeeded");
            }
        });
        let probed = pool.clone();
        builder = builder.readiness_probe(move || {
            let pool = probed.clone();
            async move { pool.ready().await.map_err(Failure::not_ready) }
        });
        let running = pool.clone();
        let run = move |job: Job<Json>, context: Context| {
            let pool = running.clone();
            async move { pool.run(job, context).await }
        };
        let consumer = builder.handler(run).build()?;
        pool.serve(consumer.slots());
        Ok(consumer)
    }
}

/// Says now and then that the main thread is alive, where all handlers run and
/// none of them blocks it.
async fn show_life(meter: Meter) {
    loop {
        meter.alive();
        tokio::time::sleep(SHOW_LIFE).await;
    }
}

fn tell(heard: Heard) {
    match heard {
        Heard::First(name) => tracing::info!("{name}: no more jobs are taken, and those that run may finish"),
        Heard::Armed => tracing::info!("send it again to end the running jobs now"),
        Heard::Second(name) => tracing::warn!("{name} again: the jobs that run are given back"),
    }
}
