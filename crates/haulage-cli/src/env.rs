//! Every environment variable that the program reads or sets, in one place.
//!
//! `docs/environment.md` is made from this file by `haulage docs environment`.

use std::fmt::Write as _;

/// A setting: the flag, its environment variable, its text and its default.
///
/// The name follows from the flag: `--max-attempts` is `HAULAGE_MAX_ATTEMPTS`.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The environment variable.
    pub(crate) name: &'static str,
    /// What it does; also the help text of the flag.
    pub(crate) help: &'static str,
    /// The value where nobody gives one.
    pub(crate) default: Option<&'static str>,
}

const fn setting(name: &'static str, help: &'static str) -> Setting {
    Setting { name, help, default: None }
}

impl Setting {
    const fn or(self, default: &'static str) -> Self {
        Self { name: self.name, help: self.help, default: Some(default) }
    }

    /// The flag that this variable stands for.
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.name.trim_start_matches("HAULAGE_").to_ascii_lowercase().replace('_', "-"))
    }

    /// The default, of a setting that has one.
    pub(crate) const fn fallback(&self) -> &'static str {
        match self.default {
            Some(default) => default,
            None => "",
        }
    }

    /// The value in the environment. An empty variable counts as not set.
    pub(crate) fn read(&self) -> Option<String> {
        std::env::var(self.name).ok().filter(|value| !value.is_empty())
    }
}

pub(crate) const URL: Setting = setting(
    "HAULAGE_URL",
    "Where the jobs are kept: sqlite://PATH, https://HOST of a Haulage server, or sqs://QUEUE?table=TABLE on AWS",
)
.or("sqlite://haulage.db");

pub(crate) const EXEC: Setting = setting(
    "HAULAGE_EXEC",
    "Program to run for each job, split into words as a shell does but never run by one",
);
pub(crate) const SHELL: Setting = setting("HAULAGE_SHELL", "Line for `sh -c` to run for each job");
pub(crate) const HTTP: Setting = setting("HAULAGE_HTTP", "URL to POST each job's body to");
pub(crate) const HTTP_READY: Setting = setting(
    "HAULAGE_HTTP_READY",
    "Path on the --http server that answers 2xx while it is ready for jobs, such as /ping; jobs are claimed only then",
);
pub(crate) const PYTHON: Setting = setting(
    "HAULAGE_PYTHON",
    "Python function to run for each job, as package.module:function, or a module, whose tasks it serves; needs the Python package `haulage`: that of this command, or of the python3 of the PATH",
);
pub(crate) const PROCESSES: Setting = setting(
    "HAULAGE_PROCESSES",
    "With --python: how many child processes run the jobs, one each, in place of threads",
);
pub(crate) const GPUS: Setting = setting(
    "HAULAGE_GPUS",
    "The GPUs to use, `all` or numbers like 0,2; each job runs in a program or child process that sees only one of them",
);
pub(crate) const SLOTS_PER_GPU: Setting =
    setting("HAULAGE_SLOTS_PER_GPU", "With --gpus: how many jobs each runs at once [default: 1]");
pub(crate) const MAX_JOBS_PER_CHILD: Setting = setting(
    "HAULAGE_MAX_JOBS_PER_CHILD",
    "With --processes or --gpus: after so many calls a child is replaced; the next one loads meanwhile",
);
pub(crate) const MAX_MEMORY_PER_CHILD: Setting = setting(
    "HAULAGE_MAX_MEMORY_PER_CHILD",
    "With --processes or --gpus: a child that has more in memory after a call is replaced, on Linux",
);
pub(crate) const MAX_DEVICE_MEMORY_PER_CHILD: Setting = setting(
    "HAULAGE_MAX_DEVICE_MEMORY_PER_CHILD",
    "With --gpus: a child that holds more of its GPU's memory after a call is replaced; needs nvidia-smi",
);
pub(crate) const CHILD_TIMEOUT: Setting = setting(
    "HAULAGE_CHILD_TIMEOUT",
    "With --processes or --gpus: how long a child may take to load the function; no limit by default",
);
pub(crate) const HEALTH_CHECK: Setting = setting(
    "HAULAGE_HEALTH_CHECK",
    "Command that must succeed before a slot that broke takes jobs again; it sees only that slot's GPU",
);
pub(crate) const QUARANTINE_LIMIT: Setting = setting(
    "HAULAGE_QUARANTINE_LIMIT",
    "The worker ends, with code 75, when nothing that runs its jobs has worked for this long [default: 5m]",
);
pub(crate) const MAX_BATCH_SIZE: Setting = setting(
    "HAULAGE_MAX_BATCH_SIZE",
    "With --python: up to how many jobs a call takes; the function then takes and returns a list",
);
pub(crate) const BATCH_TIMEOUT: Setting =
    setting("HAULAGE_BATCH_TIMEOUT", "With --python: how long a batch waits to fill [default: 0s]");
pub(crate) const ON_START: Setting = setting(
    "HAULAGE_ON_START",
    "With --python: function to call before the first job, in each process, as package.module:function",
);
pub(crate) const HTTP_HEADER: Setting = setting(
    "HAULAGE_HTTP_HEADER",
    "Header to send with each request to the --http server, such as `Authorization: Bearer …`; \
     other users of the machine can read the flag, but not the variable or --http-header-file",
);
pub(crate) const HTTP_HEADER_FILE: Setting = setting(
    "HAULAGE_HTTP_HEADER_FILE",
    "File with such headers, one a line; it is read again for each job, so that a token can change",
);
pub(crate) const HTTP_TIMEOUT: Setting = setting(
    "HAULAGE_HTTP_TIMEOUT",
    "How long the --http server may take for a job, where the job has no timeout",
)
.or("24h");
pub(crate) const ENV: Setting = setting(
    "HAULAGE_ENV",
    "Variables that the program of --exec or --shell gets, as NAME or NAME=VALUE, split into words as a shell does",
);
pub(crate) const CLEAN_ENV: Setting = setting(
    "HAULAGE_CLEAN_ENV",
    "Give the program nothing of the worker's environment but PATH, HOME, LANG, TZ, TMPDIR, what --env names, \
     and what is set for the job: no credentials [default: all of it]",
);
pub(crate) const MEMORY_LIMIT: Setting = setting(
    "HAULAGE_MEMORY_LIMIT",
    "Most memory that each process of a program may have of its own, such as 4GiB (RLIMIT_DATA) [default: no limit]",
);
pub(crate) const PROCESS_LIMIT: Setting = setting(
    "HAULAGE_PROCESS_LIMIT",
    "A program starts no further process or thread while the worker's user has this many (RLIMIT_NPROC; \
     root has no limit) [default: no limit]",
);
pub(crate) const LOG_LIMIT: Setting = setting(
    "HAULAGE_LOG_LIMIT",
    "How much of what one job prints and logs is kept in the log; a line counts as 100 bytes at least",
)
.or("1MiB");
pub(crate) const CONCURRENCY: Setting =
    setting("HAULAGE_CONCURRENCY", "How many jobs to run at once").or("1");
pub(crate) const QUEUE: Setting = setting(
    "HAULAGE_QUEUE",
    "Queue to serve. With several, the first that has a job comes first, but each tenth job is one of the others; \
     as NAME=WEIGHT they share by their weights. Give the flag once for each, or all of them with a comma in between",
)
.or("default");
pub(crate) const LEASE: Setting = setting(
    "HAULAGE_LEASE",
    "How long a job stays with this worker without a heartbeat, before another may have it",
)
.or("30s");
pub(crate) const HEARTBEAT_INTERVAL: Setting =
    setting("HAULAGE_HEARTBEAT_INTERVAL", "How often to extend the leases [default: a third of the lease]");
pub(crate) const CLAIM_WAIT: Setting =
    setting("HAULAGE_CLAIM_WAIT", "How long one request for jobs waits for the first").or("20s");
pub(crate) const SHUTDOWN_GRACE_PERIOD: Setting =
    setting("HAULAGE_SHUTDOWN_GRACE_PERIOD", "How long running jobs may finish after SIGTERM or Ctrl-C")
        .or("30s");
pub(crate) const CANCEL_GRACE_PERIOD: Setting = setting(
    "HAULAGE_CANCEL_GRACE_PERIOD",
    "How long a job may take to stop when it is cancelled, before it is ended by force",
)
.or("5s");
pub(crate) const RETRY_BASE: Setting =
    setting("HAULAGE_RETRY_BASE", "Longest wait before the first retry; it doubles with each failure")
        .or("1s");
pub(crate) const RETRY_CAP: Setting =
    setting("HAULAGE_RETRY_CAP", "Longest wait before any retry, also where a server asks for a longer one")
        .or("5m");
pub(crate) const WORKER_NAME: Setting =
    setting("HAULAGE_WORKER_NAME", "Name of this worker in the records [default: host:pid]");
pub(crate) const UNTIL_EMPTY: Setting = setting(
    "HAULAGE_UNTIL_EMPTY",
    "End, with code 0, when no job waits or runs any more; jobs with a delay and retries are waited for",
);
pub(crate) const MAX_JOBS: Setting = setting(
    "HAULAGE_MAX_JOBS",
    "End, with code 0, when this many jobs have ended here, failed attempts among them [default: no limit]",
);
pub(crate) const HTTP_LISTEN: Setting = setting(
    "HAULAGE_HTTP_LISTEN",
    "Address for pages about the worker, such as 127.0.0.1:9464: /metrics, /health, /ready and /busy [default: none]",
);
pub(crate) const CLUSTER_NAME: Setting = setting(
    "HAULAGE_CLUSTER_NAME",
    "Write metrics for CloudWatch to stdout, a line a minute, as those of a service in this ECS cluster",
);
pub(crate) const SERVICE_NAME: Setting =
    setting("HAULAGE_SERVICE_NAME", "The ECS service whose metrics these are; goes with the cluster's name");
pub(crate) const LISTEN: Setting = setting(
    "HAULAGE_LISTEN",
    "Address to listen on, such as 0.0.0.0:8080; without keys, one of this machine alone",
)
.or("127.0.0.1:8080");
pub(crate) const KEYS: Setting =
    setting("HAULAGE_KEYS", "File with the keys [default: the path of the database with -keys appended]");
pub(crate) const TLS_CERT: Setting = setting(
    "HAULAGE_TLS_CERT",
    "File with the certificate and its chain, in PEM; it is read again when it changes [default: no TLS]",
);
pub(crate) const TLS_KEY: Setting =
    setting("HAULAGE_TLS_KEY", "File with the key of the certificate, in PEM");
pub(crate) const MAX_BODY: Setting =
    setting("HAULAGE_MAX_BODY", "The largest body or result that the server takes").or("64MiB");
pub(crate) const MAX_CONNECTIONS: Setting =
    setting("HAULAGE_MAX_CONNECTIONS", "The most connections at a time; others wait").or("16384");
pub(crate) const MAX_WAITING: Setting = setting(
    "HAULAGE_MAX_WAITING",
    "How many jobs may wait in each queue; more are refused, with HTTP 429 [default: any number]",
);
pub(crate) const CORS_ORIGIN: Setting = setting(
    "HAULAGE_CORS_ORIGIN",
    "Origin whose web pages may use the server, such as https://app.example.com; may be given several times [default: none]",
);
pub(crate) const TRUST_FORWARDED: Setting = setting(
    "HAULAGE_TRUST_FORWARDED",
    "Address or network of a proxy that is trusted to name its clients, such as 127.0.0.1 or 10.0.0.0/8; may be given several times [default: none]",
);
pub(crate) const WEBHOOK_SECRET_FILE: Setting = setting(
    "HAULAGE_WEBHOOK_SECRET_FILE",
    "File with the secret that signs webhooks, made by `haulage webhook secret`, or two of them, one a line, while \
     receivers change from one to the other; it is read again when it changes [default: jobs with webhooks are refused]",
);
pub(crate) const WEBHOOK_ALLOW: Setting = setting(
    "HAULAGE_WEBHOOK_ALLOW",
    "Network of receivers of webhooks that may be reached although it is not part of the internet, and without TLS, such as 10.1.0.0/16; may be given several times [default: none]",
);
pub(crate) const LOG: Setting = setting(
    "HAULAGE_LOG",
    "What the worker logs: a level, or a filter such as `info,haulage=debug,program=off` \
     (`program` is what the jobs write to stderr)",
)
.or("info");
pub(crate) const LOG_FORMAT: Setting = setting("HAULAGE_LOG_FORMAT", "How the worker logs").or("text");

pub(crate) const MAX_ATTEMPTS: Setting =
    setting("HAULAGE_MAX_ATTEMPTS", "How many attempts the job has, crashes included").or("3");
pub(crate) const TIMEOUT: Setting =
    setting("HAULAGE_TIMEOUT", "How long one attempt may run [default: no limit]");
pub(crate) const START_WITHIN: Setting = setting(
    "HAULAGE_START_WITHIN",
    "End the job as ERROR, of the kind expired, if no handler has been given it this long after its submit; \
     longer than --delay [default: no limit]",
);
pub(crate) const RESULT_TTL: Setting = setting(
    "HAULAGE_RESULT_TTL",
    "How long the record is kept after the job ended; at least 14 days after an ERROR",
)
.or("7d");
pub(crate) const DELAY: Setting = setting("HAULAGE_DELAY", "How long to hold the job back").or("0s");
pub(crate) const GROUP: Setting =
    setting("HAULAGE_GROUP", "Jobs of one group run one at a time, in order [default: no group]");
pub(crate) const REQUEST_ID: Setting =
    setting("HAULAGE_REQUEST_ID", "Your correlation id, kept with the job [default: the job's id]");
pub(crate) const WAIT_TIMEOUT: Setting =
    setting("HAULAGE_WAIT_TIMEOUT", "How long to wait at most [default: no limit]");

/// The settings, by the commands that read them.
pub(crate) const SECTIONS: [(&str, &[&Setting]); 5] = [
    ("Every command", &[&URL]),
    (
        "`haulage worker`",
        &[
            &EXEC,
            &SHELL,
            &HTTP,
            &HTTP_READY,
            &HTTP_HEADER,
            &HTTP_HEADER_FILE,
            &HTTP_TIMEOUT,
            &PYTHON,
            &PROCESSES,
            &GPUS,
            &SLOTS_PER_GPU,
            &MAX_JOBS_PER_CHILD,
            &MAX_MEMORY_PER_CHILD,
            &MAX_DEVICE_MEMORY_PER_CHILD,
            &CHILD_TIMEOUT,
            &HEALTH_CHECK,
            &QUARANTINE_LIMIT,
            &MAX_BATCH_SIZE,
            &BATCH_TIMEOUT,
            &ON_START,
            &ENV,
            &CLEAN_ENV,
            &MEMORY_LIMIT,
            &PROCESS_LIMIT,
            &LOG_LIMIT,
            &QUEUE,
            &CONCURRENCY,
            &UNTIL_EMPTY,
            &MAX_JOBS,
            &LEASE,
            &HEARTBEAT_INTERVAL,
            &CLAIM_WAIT,
            &SHUTDOWN_GRACE_PERIOD,
            &CANCEL_GRACE_PERIOD,
            &RETRY_BASE,
            &RETRY_CAP,
            &WORKER_NAME,
            &HTTP_LISTEN,
            &CLUSTER_NAME,
            &SERVICE_NAME,
            &LOG,
            &LOG_FORMAT,
        ],
    ),
    ("`haulage submit`", &[&MAX_ATTEMPTS, &TIMEOUT, &START_WITHIN, &RESULT_TTL, &DELAY, &GROUP, &REQUEST_ID]),
    ("`haulage wait` and `haulage submit --wait`", &[&WAIT_TIMEOUT]),
    (
        "`haulage serve`, which also reads `HAULAGE_SHUTDOWN_GRACE_PERIOD`, `HAULAGE_LOG` and `HAULAGE_LOG_FORMAT`",
        &[
            &LISTEN,
            &KEYS,
            &TLS_CERT,
            &TLS_KEY,
            &MAX_BODY,
            &MAX_WAITING,
            &MAX_CONNECTIONS,
            &CORS_ORIGIN,
            &TRUST_FORWARDED,
            &WEBHOOK_SECRET_FILE,
            &WEBHOOK_ALLOW,
        ],
    ),
];

/// What is read wherever the URL is that of a server. No flag: whoever may list processes could read it.
const SERVER: [(&str, &str); 1] =
    [("HAULAGE_KEY", "The key for a server, as `haulage key create` has shown it")];

/// What is set for the program that `--exec` or `--shell` runs.
pub(crate) mod job {
    pub(crate) const URL: &str = super::URL.name;
    pub(crate) const JOB_ID: &str = "HAULAGE_JOB_ID";
    pub(crate) const REQUEST_ID: &str = "HAULAGE_JOB_REQUEST_ID";
    pub(crate) const QUEUE: &str = "HAULAGE_JOB_QUEUE";
    pub(crate) const TASK: &str = "HAULAGE_JOB_TASK";
    pub(crate) const ATTEMPT: &str = "HAULAGE_ATTEMPT";
    pub(crate) const MAX_ATTEMPTS: &str = "HAULAGE_JOB_MAX_ATTEMPTS";
    pub(crate) const DEADLINE: &str = "HAULAGE_DEADLINE";
    pub(crate) const RESULT: &str = "HAULAGE_RESULT";
    pub(crate) const CHECKPOINT: &str = "HAULAGE_CHECKPOINT";
    pub(crate) const SLOT: &str = "HAULAGE_SLOT";
    pub(crate) const GPU: &str = "HAULAGE_GPU";
    pub(crate) const RUN: &str = "HAULAGE_RUN";

    /// Each with its meaning.
    pub(crate) const ALL: [(&str, &str); 13] = [
        (URL, "Where the worker's jobs are kept"),
        (JOB_ID, "The job's id"),
        (REQUEST_ID, "The correlation id given at submit; the job's id where none was given"),
        (QUEUE, "The queue from which the job comes"),
        (TASK, "The job's task (`haulage submit --task`); not set where it has none"),
        (ATTEMPT, "The attempt, from 1; a higher one fences off a lower one"),
        (MAX_ATTEMPTS, "How many attempts the job has"),
        (DEADLINE, "When this attempt times out, in RFC 3339; not set where the job has no timeout"),
        (
            RESULT,
            "A file that is not there yet. If the program writes it, it is the result, and stdout is logged",
        ),
        (
            CHECKPOINT,
            "A file with the JSON that an earlier attempt has left, if one has. What the program writes there, \
             at most 64 KiB, is kept for the next attempt: within about two seconds, and when the program \
             ends. Write another file and rename it, so that nobody reads half of it",
        ),
        (SLOT, "The number of this job's slot, from 0; no other job that runs at the same time has it"),
        (
            GPU,
            "With --gpus: the GPU of this slot, as it was named; CUDA_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES, \
             by which the program sees no other, are set as well",
        ),
        (
            RUN,
            "A mark of this attempt: by it the worker finds what the program has started, to end that with it. \
             Leave it as it is",
        ),
    ];
}

/// Names that other programs have made common.
const COMMON: [(&str, &str); 2] = [
    ("NO_COLOR", "Set to anything but nothing: no colour"),
    (
        "SSL_CERT_FILE",
        "Certificates to trust for `--http https://…`, `--url https://…` and AWS, in place of the system's",
    ),
];

/// What the AWS SDK reads, of use with `sqs://` URLs.
const AWS: [(&str, &str); 10] = [
    ("AWS_REGION", "The region; `region=` in the URL goes before it"),
    (
        "AWS_PROFILE",
        "The profile of `~/.aws/config` and `~/.aws/credentials`; `profile=` in the URL goes before it",
    ),
    (
        "AWS_ACCESS_KEY_ID",
        "Credentials, with the next two; without them: profile, container role, instance role",
    ),
    ("AWS_SECRET_ACCESS_KEY", "The secret of the access key"),
    ("AWS_SESSION_TOKEN", "The token of temporary credentials"),
    ("AWS_ENDPOINT_URL", "Another endpoint for all services, such as a local server's"),
    ("AWS_ENDPOINT_URL_SQS", "The same for SQS alone"),
    ("AWS_ENDPOINT_URL_DYNAMODB", "The same for DynamoDB alone"),
    ("AWS_ENDPOINT_URL_S3", "The same for S3 alone"),
    ("ECS_AGENT_URI", "Set by ECS: where the worker asks for protection of its task against scale-in"),
];

/// Whether colour is unwanted everywhere.
pub(crate) fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The page `environment.md`.
pub(crate) fn markdown() -> String {
    let mut page = String::from(
        "# Environment variables\n\n\
         <!-- Made by `haulage docs environment` from env.rs: edit there. -->\n\n\
         Each setting has one name: the flag `--max-attempts` is the variable `HAULAGE_MAX_ATTEMPTS` and the\n\
         builder method `max_attempts`, where there is one. A flag goes before its variable, and the variable before the default.\n",
    );
    for (title, settings) in SECTIONS {
        let _ = write!(
            page,
            "\n## {title}\n\n| variable | flag | default | meaning |\n| --- | --- | --- | --- |\n"
        );
        for setting in settings {
            let (help, default) = match (setting.help.split_once(" [default: "), setting.default) {
                (Some((help, default)), _) => (help, default.trim_end_matches(']').to_owned()),
                (None, Some(default)) => (setting.help, format!("`{default}`")),
                (None, None) => (setting.help, String::new()),
            };
            let _ = writeln!(page, "| `{}` | `{}` | {default} | {help} |", setting.name, setting.flag());
        }
    }
    page.push_str(
        "\n## Set for the program that runs a job\n\n\
         `haulage worker --exec` and `--shell` set these for the program. A job that the program itself submits\n\
         with `haulage submit` so goes to the same place, keeps the request id, and has as many attempts, unless\n\
         flags say otherwise.\n\n\
         | variable | meaning |\n| --- | --- |\n",
    );
    for (name, meaning) in job::ALL {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page.push_str("\n## Read for `http://` and `https://` URLs\n\n| variable | meaning |\n| --- | --- |\n");
    for (name, meaning) in SERVER {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page.push_str("\n## Common to many programs\n\n| variable | meaning |\n| --- | --- |\n");
    for (name, meaning) in COMMON {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page.push_str(
        "\n## Read by the AWS SDK\n\n\
         For `sqs://` URLs, these among others; see \"Environment variables support\" in the AWS SDKs and Tools\n\
         Reference Guide.\n\n\
         | variable | meaning |\n| --- | --- |\n",
    );
    for (name, meaning) in AWS {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use haulage::{NewJob, RetryPolicy};
    use haulage_http::server::Builder;

    use super::*;
    use crate::options::{duration, size};

    #[test]
    fn defaults_are_those_of_the_library() {
        let parsed = |setting: &Setting| duration(setting.fallback()).expect("a duration");
        assert_eq!(parsed(&RESULT_TTL), NewJob::DEFAULT_RESULT_TTL);
        assert_eq!(MAX_ATTEMPTS.fallback(), NewJob::DEFAULT_MAX_ATTEMPTS.to_string());
        assert_eq!(parsed(&RETRY_BASE), RetryPolicy::default().base);
        assert_eq!(parsed(&RETRY_CAP), RetryPolicy::default().cap);
        assert_eq!(LISTEN.fallback(), Builder::ADDRESS);
        assert_eq!(size(MAX_BODY.fallback()), Ok(Builder::MAX_BODY as u64));
        assert_eq!(MAX_CONNECTIONS.fallback(), Builder::MAX_CONNECTIONS.to_string());
    }
}
