//! Headers that a server wants to see: a token, say, which nobody else is to.

use std::{fs, path::PathBuf};

use hyper::header::{HeaderName, HeaderValue};

use crate::{
    env,
    exit::{Exit, Result},
};

/// Headers from the settings, and from a file that may change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    given: Option<(HeaderName, HeaderValue)>,
    file: Option<PathBuf>,
}

impl Headers {
    /// One as text, and a file with more.
    pub(crate) fn new(given: Option<String>, file: Option<PathBuf>) -> Result<Self> {
        let given = given
            .map(|line| header(&line))
            .transpose()
            .map_err(|why| Exit::usage(format!("--http-header (or {}): {why}", env::HTTP_HEADER.name)))?;
        let headers = Self { given, file };
        headers.read().map_err(Exit::usage)?;
        Ok(headers)
    }

    /// All of them, as they are now.
    pub(super) fn read(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let mut headers: Vec<_> = self.given.clone().into_iter().collect();
        if let Some(path) = &self.file {
            let shown = path.display();
            let text = fs::read_to_string(path)
                .map_err(|error| format!("cannot read --http-header-file {shown}: {error}"))?;
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.trim();
                if !line.is_empty() && !line.starts_with('#') {
                    let wrong = |why| format!("line {number} of --http-header-file {shown}: {why}");
                    headers.push(header(line).map_err(wrong)?);
                }
            }
        }
        Ok(headers)
    }
}

/// What is wrong with one says nothing of what is in it.
fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || "this is not a header; write it like `Authorization: Bearer …`".to_owned();
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_message() {
        let headers = Headers::new(Some("X-Key: s3cret".into()), None).expect("a header");
        assert!(!format!("{headers:?}").contains("s3cret"));
        for line in ["s3cret", "X-Key s3cret", "X Key: s3cret", "X-Key: s3\u{1}cret"] {
            let why = Headers::new(Some(line.into()), None).expect_err(line);
            assert!(!why.messages[0].contains("cret"), "{why:?}");
        }
    }

    #[test]
    fn a_file_may_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("headers");
        fs::write(&path, "# of the model server\n\nAuthorization: Bearer a:b \nX-Tenant: 7\n")
            .expect("write");
        let headers = Headers::new(None, Some(path.clone())).expect("headers");
        let read = headers.read().expect("headers");
        assert_eq!(
            (read.len(), read[0].0.as_str(), read[0].1.as_bytes()),
            (2, "authorization", &b"Bearer a:b"[..])
        );
        fs::write(&path, "nothing").expect("write");
        assert!(headers.read().expect_err("no header").starts_with("line 1 of --http-header-file "));
        fs::remove_file(&path).expect("remove");
        assert!(Headers::new(None, Some(path)).expect_err("no file").messages[0].starts_with("cannot read"));
    }
}
