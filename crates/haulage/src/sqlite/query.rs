//! Looking inside by SQL, with our own library.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, types::ValueRef};
use serde_json::Value;

use super::{SqliteBackend, fault};
use crate::{Error, Result};

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, a value for each column; a blob is text of hexadecimal digits.
    pub rows: Vec<Vec<Value>>,
}

impl SqliteBackend {
    /// Runs an SQL query, which reads and cannot write. The view `jobs` is made
    /// for it.
    ///
    /// In a process that has the database open, this is the way to look
    /// inside: on systems other than Linux, another copy of SQLite would take
    /// the locks of this one away.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where the query is wrong or would write.
    pub async fn query(&self, sql: impl Into<String>) -> Result<Table> {
        let (path, sql) = (self.path.clone(), sql.into());
        tokio::task::spawn_blocking(move || query(&path, &sql))
            .await
            .map_err(|e| Error::unavailable("the query was interrupted", e))?
    }
}

/// On a connection of its own, which is opened for reading only, so that it
/// holds up no other call, and nothing that the query sets outlives it.
fn query(path: &Path, sql: &str) -> Result<Table> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| fault::to_error(path, &e))?;
    let wrong = |error: rusqlite::Error| match error {
        rusqlite::Error::MultipleStatement => {
            Error::Invalid("there is more than one query; give one at a time".into())
        }
        error if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly) => {
            Error::Invalid("a query can only read, and this one would write; nothing was changed".into())
        }
        error => Error::Invalid(format!("the query failed: {error}")),
    };
    let mut statement = connection.prepare(sql).map_err(wrong)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = statement.query([]).map_err(wrong)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(wrong)? {
        let values = (0..columns.len()).map(|column| row.get_ref(column).map(value));
        rows.push(values.collect::<rusqlite::Result<_>>().map_err(wrong)?);
    }
    Ok(Table { columns, rows })
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => n.into(),
        ValueRef::Real(x) => x.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
}
