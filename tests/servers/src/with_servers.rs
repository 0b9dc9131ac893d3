//! Runs a command with local servers in place of AWS:
//! `with-servers fauxqs dynoxide -- haulage bench --url sqs://bench.fifo`.

use std::process::{Command, ExitCode};

use haulage_servers::{Server, dynamodb_local, dynoxide, fauxqs, ministack};

/// The environment variables of the services that a server stands in for.
fn start(name: &str) -> Option<(Server, &'static [&'static str])> {
    Some(match name {
        "ministack" => (ministack(), &["AWS_ENDPOINT_URL"]),
        "dynamodb-local" => (dynamodb_local(), &["AWS_ENDPOINT_URL_DYNAMODB"]),
        "dynoxide" => (dynoxide(), &["AWS_ENDPOINT_URL_DYNAMODB"]),
        "fauxqs" => (fauxqs(), &["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_S3"]),
        _ => return None,
    })
}

#[allow(clippy::print_stderr)] // a program of its own
fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let names: Vec<String> = words.by_ref().take_while(|word| word != "--").collect();
    let (Some(program), rest) = (words.next(), words) else {
        eprintln!("usage: with-servers SERVER … -- COMMAND …");
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command.args(rest).envs([
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    let mut servers = Vec::new();
    for name in &names {
        let Some((server, variables)) = start(name) else {
            eprintln!("with-servers: unknown server {name}");
            return ExitCode::from(2);
        };
        command.envs(variables.iter().map(|variable| (*variable, server.url())));
        servers.push(server);
    }
    match command.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("with-servers: cannot start the command: {error}");
            ExitCode::FAILURE
        }
    }
}
