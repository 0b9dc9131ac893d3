//! The file in which a program finds the last checkpoint, and leaves the next.

use std::{convert::Infallible, fs, time::Duration};

use haulage::{Context, Json, backend::Update};

use super::results::{AttemptFile, Written};

/// How often it is looked at while the program runs.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct CheckpointFile<'a> {
    place: AttemptFile,
    context: &'a Context,
    /// What it held when it was last looked at.
    known: Option<Vec<u8>>,
}

impl<'a> CheckpointFile<'a> {
    /// With what an earlier attempt has left; there is no file where that is nothing.
    pub(super) fn new(place: AttemptFile, context: &'a Context) -> std::io::Result<Self> {
        let known = context.last_checkpoint().map(|json| json.as_str().as_bytes().to_vec());
        if let Some(known) = &known {
            fs::write(place.path(), known)?;
        }
        Ok(Self { place, context, known })
    }

    pub(super) const fn place(&self) -> &AttemptFile {
        &self.place
    }

    /// Passes on what the program writes, as long as it runs.
    pub(super) async fn watch(&mut self) -> Infallible {
        loop {
            tokio::time::sleep(EVERY).await;
            // What is no JSON now may be half written.
            let _ = self.look().await;
        }
    }

    /// Passes on what the program has written last.
    pub(super) async fn finish(mut self) {
        if let Err(why) = self.look().await {
            tracing::warn!("the program's checkpoint was not kept: {why}");
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let read = self.place.read(Update::MAX_CHECKPOINT).await;
        let written = match read.map_err(|error| format!("cannot read $HAULAGE_CHECKPOINT: {error}"))? {
            Written::Result(written) if !written.is_empty() => written,
            Written::TooMuch => return Err(format!("it has more than {} bytes", Update::MAX_CHECKPOINT)),
            // One that was deleted is not taken back.
            Written::Result(_) | Written::Nothing => return Ok(()),
        };
        if self.known.as_ref() == Some(&written) {
            return Ok(());
        }
        let text = std::str::from_utf8(&written).map_err(|error| format!("it is not UTF-8: {error}"))?;
        let json = Json::parse(text).map_err(|error| format!("it is not JSON: {error}"))?;
        self.context.set_checkpoint(json).map_err(|error| error.to_string())?;
        self.known = Some(written);
        Ok(())
    }
}
