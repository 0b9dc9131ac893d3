//! What a worker says when it has ended.

use std::time::Duration;

use haulage::consumer::Summary;

use crate::{
    exit::{Code, Exit, Result},
    output::{LogFormat, Output, json_line},
};

/// How long the summary may take to be printed.
const PRINT_LIMIT: Duration = Duration::from_secs(5);

/// What the worker did, in one line.
pub(super) fn report(output: Output, summary: &Summary) -> Result {
    let parts = [
        ("succeeded", summary.succeeded),
        ("retried", summary.retried),
        ("failed", summary.failed),
        ("cancelled", summary.cancelled),
        ("released", summary.released),
        ("lost", summary.lost),
    ];
    let object = || -> serde_json::Map<_, _> {
        parts.iter().map(|(name, n)| ((*name).to_owned(), (*n).into())).collect()
    };
    if output.json {
        return print(output, object());
    }
    let some: Vec<_> = parts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
    let some = if some.is_empty() { "no jobs".to_owned() } else { some.join(", ") };
    let message = format!("worker stopped: {some}");
    output.talk(match output.log {
        LogFormat::Text => format!("haulage: {message}"),
        LogFormat::Json => json_line("INFO", &message, object()),
    });
    Ok(())
}

/// Prints the summary, unless nobody reads: a worker that is to end does not
/// wait for that.
fn print(output: Output, summary: serde_json::Map<String, serde_json::Value>) -> Result {
    let (done, printed) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(output.json(&summary)));
    printed.recv_timeout(PRINT_LIMIT).unwrap_or_else(|_| {
        let limit = PRINT_LIMIT.as_secs();
        Err(Exit::new(
            Code::Failure,
            format!("nobody has read from stdout for {limit} s; what the worker did is not written"),
        ))
    })
}
