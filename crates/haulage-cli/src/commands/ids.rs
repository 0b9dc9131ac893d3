//! The ids that a person types.

use haulage::{Backend, JobId, backend::ListQuery};

use crate::exit::{Exit, Result};

/// The shortest beginning of an id that stands for it.
const SHORTEST: usize = 8;

/// How long whole ids are, where jobs are found by a beginning: those are UUIDs.
const WHOLE: usize = 36;

/// How many ids are named that begin as one that was given.
const NAMED: usize = 5;

/// The jobs that are meant. An id may be cut to its beginning, as long as no other begins so.
pub(super) async fn whole(backend: &dyn Backend, given: Vec<String>) -> Result<Vec<JobId>> {
    let mut ids = Vec::with_capacity(given.len());
    for text in given {
        ids.push(one(backend, text).await?);
    }
    Ok(ids)
}

/// The same, of one job.
pub(super) async fn one(backend: &dyn Backend, given: String) -> Result<JobId> {
    if given.len() >= WHOLE || !backend.capabilities().finds_by_prefix {
        return Ok(JobId::from(given));
    }
    if given.len() < SHORTEST {
        // What cannot begin an id is that of no job, and whoever looks for it says so.
        if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(JobId::from(given));
        }
        return Err(Exit::usage(format!(
            "`{given}` is too short for the beginning of an id; write at least {SHORTEST} characters"
        )));
    }
    let prefix = given.to_ascii_lowercase();
    let found = backend.list(ListQuery::new().id_prefix(&prefix).limit(NAMED + 1)).await?;
    match found.as_slice() {
        // Whoever looks for it says that there is none.
        [] => Ok(JobId::from(given)),
        [one] => Ok(one.id.clone()),
        several => {
            let named: Vec<_> = several.iter().take(NAMED).map(|record| record.id.as_str()).collect();
            let more = if several.len() > NAMED { ", and others" } else { "" };
            let named = named.join(", ");
            Err(Exit::usage(format!(
                "several jobs have an id that begins with {prefix}: {named}{more}; write more of it"
            )))
        }
    }
}
