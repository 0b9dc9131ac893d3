//! `haulage key`: who may use a server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use haulage::{Clock, QueueName, Timestamp, sqlite::SqliteBackend};
use haulage_http::server::{Key, KeyFile, Scope};
use serde_json::json;

use crate::{
    env,
    exit::{Code, Exit, Result},
    options,
    output::{brief, sanitized_line},
    session::Session,
};

/// Make, list and revoke the keys of a server (`haulage serve`)
///
/// Keys are kept in a file beside the database, or in the file of --keys. A secret is shown once, when its
/// key is made; the file has only its hash. A running server applies changes from the next request
/// on; one that was started without keys has to be restarted.
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Examples:\n  haulage key create --name web --scope submit,read\n  haulage key list\n  haulage key revoke 5d0c11f2"
)]
pub(crate) enum Command {
    /// Make a key, and print its secret
    ///
    /// The scopes: `submit`: submit jobs, and cancel jobs by their ids; `read`: look at jobs, bodies,
    /// results, queues, numbers and webhook deliveries; `work`: run jobs, and see numbers; `operate`: cancel,
    /// redrive and delete jobs, redrive webhook deliveries, pause queues, and see numbers. Waiting for the result of a submit needs submit,read.
    #[command(
        after_help = "Examples:\n  haulage key create --name web --scope submit,read\n  haulage key create --name gpu-7 --scope work --queue bulk --expires 90d"
    )]
    Create(Create),
    /// List the keys, without their secrets
    #[command(after_help = "Example:\n  haulage key list --json")]
    List(KeyFileArgs),
    /// Replace the keys of a name: make a new one, and let the old ones end after a while
    ///
    /// The new key has the scopes and queues of the newest of them, and is valid for as long as that one
    /// was when it was made.
    #[command(after_help = "Example:\n  haulage key rotate web --overlap 1d")]
    Rotate(Rotate),
    /// Refuse a key from now on
    #[command(after_help = "Example:\n  haulage key revoke 5d0c11f2")]
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyFileArgs {
    #[arg(long, value_name = "FILE", env = env::KEYS.name, help = env::KEYS.help)]
    keys: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Whose it is: shown in the server's log, and with the jobs that it submits
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What it allows: submit, read, work, operate; several with a comma in between
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
    scope: Vec<Scope>,

    /// Only in this queue; may be given several times [default: in all of them]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    queue: Vec<QueueName>,

    /// How long it is valid [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    expires: Option<Duration>,

    #[command(flatten)]
    place: KeyFileArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// The name of the keys
    #[arg(value_name = "NAME")]
    name: String,

    /// How long the old keys stay valid
    #[arg(long, value_name = "DURATION", value_parser = options::duration, default_value = "1d")]
    overlap: Duration,

    #[command(flatten)]
    place: KeyFileArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// Its id, or the name of the keys to revoke
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    place: KeyFileArgs,
}

/// Where the keys of a database are, unless somebody says otherwise.
pub(crate) fn default_file(session: &Session) -> Option<PathBuf> {
    let mut path = SqliteBackend::path_of(&session.url).ok()?.into_os_string();
    path.push("-keys");
    Some(path.into())
}

impl KeyFileArgs {
    fn file(&self, session: &Session) -> Result<PathBuf> {
        let file = self.keys.clone().or_else(|| default_file(session));
        file.ok_or_else(|| {
            Exit::usage(format!(
                "{} is not a database with a file of keys beside it; name one with --keys FILE",
                session.url
            ))
        })
    }
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result {
        match self {
            Self::Create(create) => create.run(session),
            Self::List(place) => list(session, &place.file(session)?),
            Self::Rotate(rotate) => rotate.run(session),
            Self::Revoke(revoke) => revoke.run(session),
        }
    }
}

impl Create {
    fn run(self, session: &Session) -> Result {
        let file = self.place.file(session)?;
        let expires_at = self.expires.map(|after| Clock::system().now().after(after));
        let (key, secret) = Key::create(self.name, self.scope, self.queue, expires_at)?;
        KeyFile::change(&file, |keys| {
            keys.push(key.clone());
            Ok(())
        })?;
        show(session, &key, &secret)
    }
}

/// Prints a secret, this once.
fn show(session: &Session, key: &Key, secret: &str) -> Result {
    let output = session.output;
    if output.json {
        return output
            .json(&json!({ "id": key.id, "name": key.name, "key": secret, "expires_at": key.expires_at }));
    }
    output.talk(format_args!(
        "key {} for {}; its secret is shown only this once:",
        key.id,
        sanitized_line(&key.name)
    ));
    output.line(secret)
}

fn list(session: &Session, file: &Path) -> Result {
    let output = session.output;
    let keys = if file.exists() { KeyFile::keys(file)? } else { Vec::new() };
    if output.json {
        return keys.iter().try_for_each(|key| {
            output.json(&json!({
                "id": key.id, "name": key.name, "scopes": key.scopes, "queues": key.queues,
                "created_at": key.created_at, "expires_at": key.expires_at,
            }))
        });
    }
    if keys.is_empty() {
        output.talk(format_args!("there are no keys in {}", file.display()));
        return Ok(());
    }
    let now = Clock::system().now();
    let rows: Vec<Vec<String>> = keys.iter().map(|key| row(key, now)).collect();
    output.text(&output.table(&["ID", "NAME", "SCOPES", "QUEUES", "AGE", "EXPIRES"], &rows))
}

fn row(key: &Key, now: Timestamp) -> Vec<String> {
    let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let queues: Vec<_> = key.queues.iter().map(QueueName::as_str).collect();
    let expires = key.expires_at.map(|end| match now < end {
        true => format!("in {}", brief(end.since(now))),
        false => "expired".to_owned(),
    });
    vec![
        key.id.clone(),
        sanitized_line(&key.name),
        scopes.join(","),
        if queues.is_empty() { "all".to_owned() } else { queues.join(",") },
        brief(now.since(key.created_at)),
        expires.unwrap_or_else(|| "never".to_owned()),
    ]
}

impl Rotate {
    fn run(self, session: &Session) -> Result {
        let (file, name) = (self.place.file(session)?, self.name);
        let now = Clock::system().now();
        let end = now.after(self.overlap);
        let (key, secret) = KeyFile::change(&file, |keys| {
            let Some(last) = keys.iter().rfind(|key| key.name == name).cloned() else {
                let message = format!("there is no key of the name {name:?}; see `haulage key list`");
                return Err(haulage::Error::Invalid(message));
            };
            // Valid for as long as that one was to be.
            let expires_at = last.expires_at.map(|end| now.after(end.since(last.created_at)));
            let (key, secret) = Key::create(last.name, last.scopes, last.queues, expires_at)?;
            for old in keys.iter_mut().filter(|key| key.name == name) {
                old.expires_at = Some(old.expires_at.map_or(end, |earlier| earlier.min(end)));
            }
            keys.push(key.clone());
            Ok((key, secret))
        })?;
        show(session, &key, &secret)
    }
}

impl Revoke {
    fn run(self, session: &Session) -> Result {
        let (file, id) = (self.place.file(session)?, self.id);
        let gone = KeyFile::change(&file, |keys| {
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(keys).into_iter().partition(|key| key.id == id || key.name == id);
            *keys = kept;
            Ok(gone)
        })?;
        let output = session.output;
        if gone.is_empty() {
            let shown = sanitized_line(&id);
            let message = format!("there is no key {shown} in {}; see `haulage key list`", file.display());
            return Err(Exit::new(Code::NotFound, message));
        }
        for key in gone {
            if output.json {
                output.json(&json!({ "id": key.id, "name": key.name, "revoked": true }))?;
            } else {
                output.line(format_args!("{} ({}) is revoked", key.id, sanitized_line(&key.name)))?;
            }
        }
        Ok(())
    }
}
