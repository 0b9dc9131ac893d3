//! The database file: what is in it, how it is opened, how it is brought up
//! to date.

use std::{fs, io::ErrorKind, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};

use super::{
    fault::{self, Fault},
    location, log,
};
use crate::{Error, Result};

/// Marks a file as ours (`PRAGMA application_id`): "Haul".
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"Haul");

/// The steps from an empty file to the present version, which is their
/// number (`PRAGMA user_version`). A step that has been released is never
/// changed; add another.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];

/// The version that this code writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// What there is at a path.
#[derive(Debug)]
pub(super) struct Found {
    /// A database of ours, which needs no migration.
    pub(super) current: bool,
    /// By which it was looked at. Kept until others are open: the last one to
    /// close cleans up, and the next one to open starts from the beginning.
    pub(super) _connection: Option<Connection>,
}

/// Looks at the path without changing anything: is there, or can there be, a
/// database of ours?
pub(super) fn inspect(path: &Path, busy_timeout: Duration) -> Result<Found> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if meta.len() == 0 => return Ok(Found { current: false, _connection: None }),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !parent.is_dir() {
                return Err(Error::Config(format!(
                    "cannot create {shown}: there is no folder {}; create it first",
                    parent.display()
                )));
            }
            return Ok(Found { current: false, _connection: None });
        }
        Err(error) => return Err(Error::Config(format!("cannot read {shown}: {error}"))),
    }
    // Only through SQLite: closing a file that was opened without it would take
    // the POSIX locks of this process's other connections from them.
    let look = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(busy_timeout)?;
        let snapshot = connection.unchecked_transaction()?;
        let (id, version) = identity(&snapshot)?;
        let tables: i64 = snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
        let mode: String = snapshot.query_row("PRAGMA journal_mode", [], |r| r.get(0))?;
        snapshot.finish()?;
        Ok((connection, id, version, tables, mode))
    };
    let (connection, id, version, tables, mode) = look().map_err(|e| fault::to_error(path, &e))?;
    if id != APPLICATION_ID && (id != 0 || tables > 0) {
        return Err(Error::Config(format!(
            "{shown} is an SQLite database of another program; Haulage keeps its jobs in a file of its own"
        )));
    }
    if version > VERSION {
        return Err(newer(path, version));
    }
    Ok(Found { current: version == VERSION && mode == "wal", _connection: Some(connection) })
}

fn newer(path: &Path, version: usize) -> Error {
    Error::Config(format!(
        "{} has schema version {version}, and this version of Haulage knows {VERSION}; use a newer Haulage",
        path.display()
    ))
}

fn identity(connection: &Connection) -> rusqlite::Result<(i32, usize)> {
    let id = connection.query_row("PRAGMA application_id", [], |r| r.get(0))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    // The version of anybody else says nothing to us.
    let version = if id == APPLICATION_ID { usize::try_from(version).unwrap_or(0) } else { 0 };
    Ok((id, version))
}

/// Opens the connection that writes, and creates or migrates the database.
pub(super) fn open_writer(path: &Path, busy_timeout: Duration) -> Result<Connection, Fault> {
    location::create(path).map_err(|e| location::to_error(format!("cannot create {}", path.display()), e))?;
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(busy_timeout)?;
    keep_statements(&connection, 64)?;
    connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32000;")?;
    if connection.query_row("PRAGMA page_count", [], |r| r.get::<_, i64>(0))? == 0 {
        // Pages can be given back to the disk. Once there is a first one, it is too late for that.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0))?;
    if mode != "wal" {
        return Err(Error::Config(format!(
            "{} is on a file system without shared memory, which SQLite's WAL mode needs; use a local disk",
            path.display()
        ))
        .into());
    }
    // FULL: a commit is on the disk before it is acknowledged.
    connection.execute_batch("PRAGMA synchronous = FULL;")?;
    // The writer does so itself.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // After a time of overlapping readers the log shrinks to this again.
    connection.pragma_update(None, "journal_size_limit", 2 * 4096 * i64::from(log::most_pages(path)))?;
    // What is deleted is overwritten.
    connection.pragma_update(None, "secure_delete", "ON")?;
    let version = migrate(&mut connection, MIGRATIONS)?;
    if version > VERSION {
        return Err(newer(path, version).into());
    }
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path, busy_timeout: Duration) -> rusqlite::Result<Connection> {
    // Not READ_ONLY: the last connection to close cleans up the log.
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(busy_timeout)?;
    keep_statements(&connection, 32)?;
    connection
        .execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000; PRAGMA query_only = ON;")?;
    Ok(connection)
}

/// Keeps so many statements compiled. With its default, SQLite compiles one that
/// has a variable as its LIMIT anew each time that another value is bound to it,
/// in the hope of a better plan.
fn keep_statements(connection: &Connection, count: usize) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(count);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Runs the steps that the file does not have yet, all in one transaction.
/// Tells the version of the file, and leaves one alone that is newer.
fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<usize> {
    let (id, version) = identity(connection)?;
    if id == APPLICATION_ID && version >= steps.len() {
        return Ok(version);
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let (_, version) = identity(&tx)?;
    if version >= steps.len() {
        return Ok(version);
    }
    for step in &steps[version..] {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", i64::try_from(steps.len()).unwrap_or(i64::MAX))?;
    tx.commit()?;
    Ok(steps.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrates_step_by_step_and_only_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut connection = Connection::open(dir.path().join("m.db")).expect("open");
        let steps =
            ["CREATE TABLE a (x); INSERT INTO a VALUES (1);", "ALTER TABLE a ADD COLUMN y DEFAULT 2;"];
        migrate(&mut connection, &steps[..1]).expect("first");
        migrate(&mut connection, &steps).expect("second");
        assert_eq!(migrate(&mut connection, &steps).expect("nothing to do"), 2);
        assert_eq!(migrate(&mut connection, &steps[..1]).expect("a newer file is left alone"), 2);
        let row: (i64, i64) =
            connection.query_row("SELECT x, y FROM a", [], |r| Ok((r.get(0)?, r.get(1)?))).expect("one row");
        assert_eq!(row, (1, 2));
        assert_eq!(identity(&connection).expect("identity"), (APPLICATION_ID, 2));
    }

    #[test]
    fn a_failed_step_leaves_the_file_as_it_was() {
        let mut connection = Connection::open_in_memory().expect("open");
        migrate(&mut connection, &["CREATE TABLE a (x);", "CREATE TABLE a (x);"]).expect_err("twice");
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).expect("count");
        assert_eq!((tables, identity(&connection).expect("identity")), (0, (0, 0)));
    }
}
