//! A URL that is to be told what becomes of a job.

use std::{collections::BTreeSet, fmt, net::Ipv6Addr, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{Error, spec::check_size};

/// A URL that is to be told what becomes of a job, and of what.
///
/// As JSON it is an object, and the URL alone is read as well, for one that is told of the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Webhook {
    /// Where to: `https://`, or `http://` where whoever delivers allows it. Records show it without
    /// its query, in which there may be a token.
    pub url: String,
    /// Of what.
    pub events: BTreeSet<WebhookEvent>,
}

/// What a webhook can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WebhookEvent {
    /// The job has ended, in whichever way; after a redrive it ends again.
    Ended,
    /// An attempt has failed, and another one follows. The failure of the last one is an end. One that
    /// was given back has not failed.
    AttemptFailed,
    /// The job has told of its progress. Once in [`Webhook::PROGRESS_EVERY`] at most, and what is still
    /// to be told of it when there is something newer, or the end of the job is told, is not told any more.
    Progress,
}

impl Webhook {
    /// The longest URL, in bytes.
    pub const MAX_URL_BYTES: usize = 2048;
    /// A result of more bytes is not sent along; the receiver fetches it: 16 KiB.
    pub const MAX_RESULT_BYTES: usize = 16 << 10;
    /// Of a longer error, the end is sent along: 4 KiB.
    pub const MAX_ERROR_BYTES: usize = 4 << 10;
    /// The least time between two events of one job's progress: 5 s.
    pub const PROGRESS_EVERY: Duration = Duration::from_secs(5);

    /// This URL is to be told of the end.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), events: [WebhookEvent::Ended].into() }
    }

    /// It is to be told of these instead.
    #[must_use]
    pub fn events(mut self, events: impl IntoIterator<Item = WebhookEvent>) -> Self {
        self.events = events.into_iter().collect();
        self
    }

    /// Host and port, as they are in the URL, in small letters.
    pub fn host(&self) -> String {
        authority(&self.url).to_ascii_lowercase()
    }

    /// The same as it is shown: the query of the URL may be a secret.
    #[must_use]
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        if let Some(query) = shown.url.find('?') {
            shown.url.truncate(query);
            shown.url.push_str("?…");
        }
        shown
    }

    /// The events as the bits of a number.
    #[cfg(feature = "sqlite")]
    pub(crate) fn bits(&self) -> u32 {
        self.events.iter().map(|event| event.bit()).sum()
    }

    /// Checks that it is a URL to which something can be sent.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] that says what is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |why: &str| Err(Error::Invalid(format!("webhook {why}")));
        check_size("webhook", &self.url, Self::MAX_URL_BYTES)?;
        if !has_scheme(&self.url, "https") && !has_scheme(&self.url, "http") {
            return wrong("is not a URL like https://example.com/jobs");
        }
        let is_of_urls = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&b);
        if self.url.contains('#') {
            return wrong("has a fragment (#), which no server would see; leave it out");
        }
        if !self.url.bytes().all(is_of_urls) {
            return wrong("has a character that is not allowed in a URL; write it in percent-encoding");
        }
        let authority = authority(&self.url);
        if authority.contains('@') {
            return wrong("has a name or a password before its host; check the signature instead");
        }
        if !is_host_and_port(authority) {
            return wrong("does not name a host, and a port if need be, like example.com:8443");
        }
        if self.events.is_empty() {
            return wrong("has no events; leave them out for `ended`");
        }
        Ok(())
    }
}

/// As it is [shown](Webhook::shown), with its events.
impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events: Vec<_> = self.events.iter().map(|event| event.as_str()).collect();
        write!(f, "{} ({})", self.shown().url, events.join(", "))
    }
}

impl From<String> for Webhook {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    url.split_once("://").is_some_and(|(given, _)| given.eq_ignore_ascii_case(scheme))
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.parse::<Ipv6Addr>().is_err() {
            return false;
        }
        ("v6", port)
    } else {
        authority.split_at(authority.find(':').unwrap_or(authority.len()))
    };
    let is_port = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(number) => number.parse::<u16>().is_ok_and(|number| number > 0) && !number.starts_with('+'),
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    is_port && (1..=253).contains(&host.len()) && host.bytes().all(is_name)
}

/// A URL alone, or all of it.
impl<'de> Deserialize<'de> for Webhook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            url: String,
            events: Option<BTreeSet<WebhookEvent>>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Webhook;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or an object with a url and events")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<Webhook, E> {
                Ok(Webhook::new(url))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Webhook, A::Error> {
                let Whole { url, events } = Whole::deserialize(MapAccessDeserializer::new(map))?;
                let webhook = Webhook::new(url);
                Ok(match events {
                    Some(events) => webhook.events(events),
                    None => webhook,
                })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl WebhookEvent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ended, Self::AttemptFailed, Self::Progress];

    /// The name, as a job's options have it: `attempt_failed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::AttemptFailed => "attempt_failed",
            Self::Progress => "progress",
        }
    }

    /// The name in what is sent: `job.attempt_failed`.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Ended => "job.ended",
            Self::AttemptFailed => "job.attempt_failed",
            Self::Progress => "job.progress",
        }
    }

    /// Its place in a number.
    #[cfg(feature = "sqlite")]
    pub(crate) const fn bit(self) -> u32 {
        match self {
            Self::Ended => 1,
            Self::AttemptFailed => 2,
            Self::Progress => 4,
        }
    }
}

impl fmt::Display for WebhookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for WebhookEvent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|event| event.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::Invalid(format!("unknown event {text:?}; the events are {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_alone_is_told_of_the_end() {
        let alone: Webhook = serde_json::from_str(r#""https://a.example/x""#).expect("a webhook");
        assert_eq!(alone, Webhook::new("https://a.example/x"));
        let json = r#"{"url":"https://a.example/x","events":["ended","attempt_failed","progress"]}"#;
        let all: Webhook = serde_json::from_str(json).expect("a webhook");
        assert_eq!(all, Webhook::new("https://a.example/x").events(WebhookEvent::ALL));
        assert_eq!(serde_json::to_string(&all).expect("JSON"), json);
        for (wrong, why) in [
            (r#"{"url":"https://a","event":["ended"]}"#, "unknown field `event`, expected `url` or `events`"),
            (r#"{"url":"https://a","events":["end"]}"#, "unknown variant `end`, expected one of `ended`"),
            (r#"{"events":["ended"]}"#, "missing field `url`"),
            ("1", "a URL, or an object with a url"),
        ] {
            let error = serde_json::from_str::<Webhook>(wrong).expect_err(wrong).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused() {
        for url in [
            "https://example.com",
            "HTTPS://Example.com:8443/hooks?token=x%20y",
            "http://127.0.0.1:80/",
            "https://[2606:4700::1111]:443/x",
            "https://xn--bcher-kva.example/a_b",
        ] {
            Webhook::new(url).validate().unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        let long = format!("https://example.com/{}", "x".repeat(Webhook::MAX_URL_BYTES));
        for (url, why) in [
            ("", "not a URL"),
            ("example.com/x", "not a URL"),
            ("ftp://example.com", "not a URL"),
            ("https://", "a host"),
            ("https:///x", "a host"),
            ("https://:443/", "a host"),
            ("https://example.com:0/", "a host"),
            ("https://example.com:+1/", "a host"),
            ("https://example.com:99999/", "a host"),
            ("https://[::1/", "a host"),
            ("https://[x]/", "a host"),
            ("https://exa%6dple.com/", "a host"),
            ("https://user:secret@example.com/", "a password"),
            ("https://example.com/#x", "a fragment"),
            ("https://example.com/two words", "not allowed"),
            ("https://bücher.example/", "not allowed"),
            ("https://example.com/\r\nx: y", "not allowed"),
            ("https://example.com\\@127.0.0.1/", "not allowed"),
            (&long, "2048 are allowed"),
        ] {
            let error = Webhook::new(url).validate().expect_err(url).to_string();
            assert!(error.starts_with("webhook ") && error.contains(why), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Webhook::new("https://example.com").events([]).validate().is_err());
    }

    #[test]
    fn what_is_shown_has_no_query() {
        let webhook = Webhook::new("https://Example.com:8443/x?token=secret");
        assert_eq!(webhook.shown().url, "https://Example.com:8443/x?…");
        assert_eq!(webhook.host(), "example.com:8443");
        assert_eq!(Webhook::new("https://example.com/x").shown().url, "https://example.com/x");
    }
}
