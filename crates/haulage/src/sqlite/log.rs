//! The log (SQLite's WAL), whose pages are moved into the database now and then.
//!
//! A reader that stays keeps pages from being moved. Left to itself, SQLite then sorts all
//! of the log with each commit, to find that there is nothing that it may move, and commits
//! become several times slower. So after a try in vain there is none for some time.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, Row};

use super::{
    space::{self, CHECKPOINT_PAGES},
    sys,
};

/// How many times as long as a try in vain has taken there is no other one.
const REST: u32 = 20;
/// And for how long at most.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How many pages the log has before they are moved.
pub(super) fn most_pages(database: &Path) -> u32 {
    sys::disk(database).map_or(CHECKPOINT_PAGES, |disk| space::checkpoint_pages(disk.total))
}

#[derive(Debug)]
pub(super) struct Log {
    most: u64,
    next_try: Instant,
}

impl Log {
    pub(super) fn new(database: &Path) -> Self {
        Self { most: most_pages(database).into(), next_try: Instant::now() }
    }

    /// Moves the pages where there are many. For whoever has just committed, and still has
    /// the turn: nobody adds to them meanwhile.
    pub(super) fn committed(&mut self, connection: &Connection) {
        // A look that fails is made again with the next commit.
        let Ok((pages, before)) = checkpoint(connection, "NOOP") else { return };
        let began = Instant::now();
        if pages < self.most || began < self.next_try {
            return;
        }
        match checkpoint(connection, "PASSIVE") {
            // Readers that come and go let it have some.
            Ok((pages, moved)) if moved == pages || moved > before => {}
            _ => self.next_try = Instant::now() + (began.elapsed() * REST).min(LONGEST_REST),
        }
    }
}

/// How many pages the log has, and how many of them are in the database.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(u64, u64)> {
    let count = |row: &Row<'_>, column: usize| -> rusqlite::Result<u64> {
        Ok(row.get::<_, i64>(column)?.unsigned_abs())
    };
    connection
        .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
        .query_row([], |row| Ok((count(row, 1)?, count(row, 2)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_stays_is_not_asked_with_each_commit_and_its_end_is_noticed() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        let open = || Connection::open(&path).expect("open");
        let (writer, reader) = (open(), open());
        writer
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x);")
            .expect("create");
        let write = || {
            writer.execute("INSERT INTO t VALUES (1)", []).expect("insert");
        };
        let mut log = Log { most: 10, next_try: Instant::now() };
        checkpoint(&writer, "PASSIVE").expect("moved");
        reader.execute_batch("BEGIN; SELECT * FROM t").expect("read");
        let moved = || {
            let (pages, moved) = checkpoint(&writer, "NOOP").expect("a look");
            moved == pages
        };
        let first = log.next_try;
        for _ in 0..9 {
            write();
            log.committed(&writer);
            assert!(log.next_try == first, "the log is short");
        }
        write();
        write();
        // The first try moves what the reader does not see.
        for _ in 0..3 {
            write();
            log.committed(&writer);
        }
        assert!(log.next_try > first && !moved());
        reader.execute_batch("COMMIT").expect("the end");
        while !moved() {
            log.committed(&writer);
        }
    }

    #[test]
    fn a_try_that_moves_some_of_it_is_followed_by_another() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        let open = || Connection::open(&path).expect("open");
        let (writer, reader) = (open(), open());
        writer
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x);")
            .expect("create");
        let write = || writer.execute("INSERT INTO t VALUES (1)", []).expect("insert");
        write();
        reader.execute_batch("BEGIN; SELECT * FROM t").expect("read");
        write();
        let mut log = Log { most: 1, next_try: Instant::now() };
        let first = log.next_try;
        log.committed(&writer);
        assert!(log.next_try == first, "what the reader has seen is moved");
        log.committed(&writer);
        assert!(log.next_try > first, "and the rest cannot be");
    }
}
