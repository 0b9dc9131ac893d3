//! The URLs of backends: which backend one is of, and how its parts are written.

use crate::{Error, Result};

/// The kinds of backends, by the scheme of their URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `memory://`
    Memory,
    /// `sqlite://`
    Sqlite,
    /// `http://` and `https://`
    Http,
    /// `sqs://`
    Sqs,
}

/// The scheme of a backend's URL, in any case, and what follows `://`.
///
/// # Errors
///
/// [`Error::Config`] where the URL has none, or an unknown one, with what would be right.
pub fn split(url: &str) -> Result<(Scheme, &str)> {
    let url = url.trim();
    let Some((scheme, rest)) = url.split_once("://") else { return Err(Error::Config(no_scheme(url))) };
    let unknown = || {
        Error::Config(format!(
            "unknown URL scheme `{scheme}`; write sqlite://haulage.db for a file of this machine, \
             https://jobs.example.com for a Haulage server, or sqs://jobs.fifo?table=results for AWS"
        ))
    };
    Ok((Scheme::named(scheme).ok_or_else(unknown)?, rest))
}

impl Scheme {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "memory" => Some(Self::Memory),
            "sqlite" => Some(Self::Sqlite),
            "http" | "https" => Some(Self::Http),
            "sqs" => Some(Self::Sqs),
            _ => None,
        }
    }
}

fn no_scheme(text: &str) -> String {
    if text.is_empty() {
        "the backend's URL is empty; for a file of this machine, write sqlite://haulage.db".to_owned()
    } else {
        // `sqlite:x.db` and `sqlite:/x.db` are other programs' ways to say it.
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if Scheme::named(scheme).is_some() => (scheme, rest),
            _ => ("sqlite", text),
        };
        let what = if scheme.eq_ignore_ascii_case("sqlite") { "for a file of this machine, " } else { "" };
        format!("`{text}` is not a URL; {what}write {scheme}://{rest}")
    }
}

/// The parameters behind the `?` of a URL: their names, and their values, decoded.
pub fn parameters(query: &str) -> impl Iterator<Item = Result<(&str, String)>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((name, decode(value)?))
    })
}

/// Takes the percent-encoding off.
///
/// # Errors
///
/// [`Error::Config`] where it is not such an encoding of UTF-8.
pub fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let byte = after
                .get(..2)
                .and_then(|hex| std::str::from_utf8(hex).ok())
                .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|hex| u8::from_str_radix(hex, 16).ok());
            let Some(byte) = byte else {
                return Err(Error::Config(format!(
                    "in `{text}`, a % is not followed by two hexadecimal digits; write %25 for a percent sign"
                )));
            };
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::Config(format!("`{text}` does not decode to UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_scheme_and_all_others_an_explanation() {
        for (url, expected) in [
            ("memory://", (Scheme::Memory, "")),
            (" SQLite:///srv/x.db\n", (Scheme::Sqlite, "/srv/x.db")),
            ("http://localhost", (Scheme::Http, "localhost")),
            ("HTTPS://a.example?x=1", (Scheme::Http, "a.example?x=1")),
            ("sqs://jobs.fifo", (Scheme::Sqs, "jobs.fifo")),
        ] {
            assert_eq!(split(url).expect(url), expected);
        }
        for (url, part) in [
            ("", "empty; for a file of this machine, write sqlite://haulage.db"),
            ("jobs.db", "write sqlite://jobs.db"),
            ("sqlite:jobs.db", "write sqlite://jobs.db"),
            ("sqlite:/srv/jobs.db", "write sqlite:///srv/jobs.db"),
            ("memory:", "write memory://"),
            ("https:jobs.example.com", "write https://jobs.example.com"),
            ("amqp://host", "unknown URL scheme `amqp`; write sqlite://haulage.db for a file"),
        ] {
            let message = split(url).expect_err(url).to_string();
            assert!(message.contains(part), "{url}: {message}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let read = |query| parameters(query).collect::<Result<Vec<_>>>();
        assert_eq!(read("").expect("none"), []);
        let expected = [("a", "x y=z"), ("b", ""), ("c", "")].map(|(name, value)| (name, value.to_owned()));
        assert_eq!(read("a=x%20y=z&&b=&c").expect("parameters"), expected);
        let message = read("a=1&b=%zz").expect_err("no digits").to_string();
        assert!(message.contains("write %25"), "{message}");
    }

    #[test]
    fn percent_signs_are_taken_off() {
        assert_eq!(decode("a%20b/%C3%A9%25.db").expect("decode"), "a b/é%.db");
        for text in ["x%zz", "x%", "%+1", "%é"] {
            let message = decode(text).expect_err(text).to_string();
            assert!(message.contains("write %25 for a percent sign"), "{message}");
        }
        assert!(decode("%FF").expect_err("not UTF-8").to_string().contains("does not decode to UTF-8"));
    }
}
