//! `haulage backup`

use std::path::PathBuf;

use serde_json::json;

use crate::{
    exit::{Exit, Result},
    session::Session,
};

/// Copy an embedded database, as it is at one moment, into a new file, while jobs go on
///
/// A file that is there is never overwritten. The copy can be read by its owner alone (mode 0600), and
/// is on the disk when this ends; where it fails, there is no file of that name. It is a database like
/// the first: jobs that are in progress now run again where workers serve the copy.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage backup \"jobs-$(date +%F).db\"\n  haulage stats --url sqlite://jobs-2026-11-28.db"
)]
pub(crate) struct Args {
    /// The file to make
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        if session.is_aws() {
            return Err(Exit::usage(
                "on AWS, the table is backed up by DynamoDB: see point-in-time recovery in docs/deploy.md",
            ));
        }
        session.database().await?.backup(&self.file).await?;
        if session.output.json {
            return session.output.json(&json!({ "file": self.file }));
        }
        session.output.talk(format_args!("the jobs are copied to {}", self.file.display()));
        Ok(())
    }
}
