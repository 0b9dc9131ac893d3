//! `haulage sql`

use serde_json::Value;

use crate::{
    exit::{Exit, Result},
    output::sanitized_line,
    session::Session,
};

/// Look inside an embedded database with an SQL query, which reads and cannot write
///
/// The view `jobs` has of each job: id, status, attempt, max_attempts, dead,
/// queue, group_id, worker, slot, submitted_at, started_at, finished_at, due_at,
/// error_kind, error_type, error, body, result.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haulage sql 'SELECT status, count(*) AS jobs FROM jobs GROUP BY status'")]
pub(crate) struct Args {
    /// The query
    #[arg(value_name = "QUERY")]
    query: String,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        if session.is_aws() {
            return Err(Exit::usage("there is no SQL on AWS; see `haulage list` and `haulage stats`"));
        }
        let table = session.database().await?.query(self.query).await?;
        if output.json {
            return table.rows.into_iter().try_for_each(|row| {
                output
                    .json(&table.columns.iter().cloned().zip(row).collect::<serde_json::Map<String, Value>>())
            });
        }
        let columns: Vec<String> = table.columns.iter().map(|name| sanitized_line(name)).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let rows: Vec<Vec<String>> =
            table.rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
        output.text(&output.table(&columns, &rows))
    }
}

fn cell(value: Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => sanitized_line(&text),
        other => other.to_string(),
    }
}
