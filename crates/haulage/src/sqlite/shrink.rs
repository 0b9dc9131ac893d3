//! Giving back to the disk what the file does not need any more.
//!
//! SQLite uses the pages of deleted rows again, and keeps them until then. So a file
//! that once had a large backlog would stay as large for good. Pages that are far more
//! than what is in use are taken off its end, where those that are in use change
//! places with free ones; that costs some writes for each.

use std::time::Instant;

use super::tx::Tx;

type Sql<T> = rusqlite::Result<T>;

/// How much the file keeps in any case, in pages of 4 KiB: 16 MiB.
const KEPT: i64 = 4096;

/// Whether more is free than is in use: less than that is soon needed again, and not
/// worth the writes.
pub(super) fn is_due(tx: &Tx<'_>) -> Sql<bool> {
    let (all, free) = pages(tx)?;
    Ok(free > (all - free).max(KEPT))
}

/// Gives back some, within this time; whether there is more. No more than a few jobs
/// write to the log, as the disk may be nearly full. Where it fails, the rest of the
/// transaction does not.
pub(super) fn give_back(tx: &mut Tx<'_>, until: Instant) -> Sql<bool> {
    Ok(tx.apart(|tx| some(tx, until))?.unwrap_or_else(|error| {
        tracing::debug!(%error, "no space was given back to the disk");
        false
    }))
}

fn some(tx: &Tx<'_>, until: Instant) -> Sql<bool> {
    // Few at a time: of a file with a long list of free pages, each is looked for in it.
    for _ in 0..64 {
        if !is_due(tx)? {
            return Ok(false);
        }
        let (before, _) = pages(tx)?;
        // So many together; SQLite answers with a row for each.
        tx.rows("PRAGMA incremental_vacuum(16)", [], |_| Ok(()))?;
        // Of a file that somebody has made to keep them, there are none.
        if pages(tx)?.0 == before {
            return Ok(false);
        }
        if Instant::now() >= until {
            break;
        }
    }
    is_due(tx)
}

/// How many there are, and how many of them are free.
fn pages(tx: &Tx<'_>) -> Sql<(i64, i64)> {
    let count = |sql| tx.row(sql, [], |r| r.get::<_, i64>(0)).map(Option::unwrap_or_default);
    Ok((count("PRAGMA page_count")?, count("PRAGMA freelist_count")?))
}
