//! Bodies and results, and where they are kept.

use std::io::{self, Read as _};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use haulage::{Error, Json, Result};

use crate::{
    config::{Compression, Config},
    schema::{
        name,
        object_retention::{KEEP_DAYS, object_key},
        update::text,
    },
};

/// The largest body or result that is kept, in bytes, with a bucket: like the embedded
/// backend. What is stored is never read beyond this, either, with a bucket or without.
pub(crate) const MAX_DOCUMENT: usize = 256 << 20;

/// What the object of a body is called: plain, and compressed.
const BODY_OBJECTS: [&str; 2] = ["body.json", "body.json.zst"];

/// A body up to this size, in bytes, is kept in the record: it then costs no
/// write of its own, and a record stays under the 1 KB that one write unit pays
/// for.
const IN_RECORD: usize = 512;

/// The least size, in bytes, that is worth compressing.
const WORTH_COMPRESSING: usize = 1024;

/// What takes so long, by the bytes it works on, that heartbeats must not wait
/// for its thread.
const LARGE: usize = 1 << 20;

/// Runs what may take a while, so that the runtime's other tasks go on.
fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < LARGE { work() } else { tokio::task::block_in_place(work) }
}

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packed {
    Plain(Json),
    Zstd(Vec<u8>),
}

impl Packed {
    pub(crate) fn new(json: &Json, compression: Compression) -> Self {
        if compression == Compression::Zstd && json.size() >= WORTH_COMPRESSING {
            let compress = || zstd::bulk::compress(json.as_str().as_bytes(), zstd::DEFAULT_COMPRESSION_LEVEL);
            match aside(json.size(), compress) {
                Ok(packed) if packed.len() < json.size() / 10 * 9 => return Self::Zstd(packed),
                _ => {}
            }
        }
        Self::Plain(json.clone())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(json) => json.as_str().as_bytes(),
            Self::Zstd(bytes) => bytes,
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes().len()
    }

    pub(crate) fn is_zstd(&self) -> bool {
        matches!(self, Self::Zstd(_))
    }

    /// From what an object or a message holds.
    pub(crate) fn from_bytes(bytes: Vec<u8>, zstd: bool) -> io::Result<Self> {
        if zstd {
            return Ok(Self::Zstd(bytes));
        }
        let text = String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        Ok(Self::Plain(Json::from_stored(text)))
    }

    /// The document, of `most` bytes at most: a few bytes can be packed that
    /// are gigabytes, and whoever may send a message could fill the memory.
    pub(crate) fn unpack(self, most: usize) -> io::Result<Json> {
        match self {
            Self::Plain(json) => Ok(json),
            Self::Zstd(bytes) => {
                let unpack = || {
                    let more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
                    io::read_to_string(zstd::Decoder::new(&*bytes)?.take(more))
                };
                let text = aside(bytes.len(), unpack)?;
                if text.len() > most {
                    let why = format!("it is larger than {most} bytes when it is unpacked");
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
                }
                Ok(Json::from_stored(text))
            }
        }
    }

    pub(crate) fn to_attribute(&self) -> AttributeValue {
        match self {
            Self::Plain(json) => text(json.as_str()),
            Self::Zstd(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
        }
    }

    pub(crate) fn from_attribute(value: &AttributeValue) -> Option<Self> {
        match value {
            AttributeValue::S(text) => Some(Self::Plain(Json::from_stored(text.as_str()))),
            AttributeValue::B(bytes) => Some(Self::Zstd(bytes.as_ref().to_vec())),
            _ => None,
        }
    }
}

/// The key of the item of a body that is too large for its record.
pub(crate) fn body_key(token: &str) -> String {
    format!("body#{token}")
}

/// Where a document is, other than in its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DocumentPlace {
    /// In the record.
    Record,
    /// In an item of its own, with this key.
    Item(String),
    /// In the job's message alone; once the job has ended without success, in an item of
    /// this key as well.
    Message(String),
    /// In an object of the bucket, with this key.
    Object(String),
}

impl DocumentPlace {
    /// How the record says where it is.
    pub(crate) fn to_text(&self) -> Option<String> {
        match self {
            Self::Record => None,
            Self::Item(key) => Some(format!("item:{key}")),
            Self::Message(key) => Some(format!("message:{key}")),
            Self::Object(key) => Some(format!("s3:{key}")),
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("item", key) => Some(Self::Item(key.to_owned())),
            ("message", key) => Some(Self::Message(key.to_owned())),
            ("s3", key) => Some(Self::Object(key.to_owned())),
            _ => None,
        }
    }

    /// Whether this is where a submit with this token puts a body of its job.
    pub(crate) fn is_of(&self, store: &str, token: &str) -> bool {
        match self {
            Self::Record => true,
            Self::Item(key) | Self::Message(key) => *key == body_key(token),
            Self::Object(key) => BODY_OBJECTS
                .iter()
                .any(|name| KEEP_DAYS.iter().any(|days| *key == object_key(*days, store, token, name))),
        }
    }
}

/// Where a body goes that is too large for its record, and not for its message.
pub(crate) fn beside_record(config: &Config, token: &str) -> DocumentPlace {
    let key = body_key(token);
    if config.keep_bodies { DocumentPlace::Item(key) } else { DocumentPlace::Message(key) }
}

/// The body of a job, as an envelope carries it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Body {
    /// The document, unless it is in the bucket and was not fetched.
    pub(crate) packed: Option<Packed>,
    pub(crate) place: DocumentPlace,
}

impl Body {
    /// Decides where a new body goes. `token` names the job before it has an id,
    /// `keep_days` for how long the object is certainly kept.
    pub(crate) fn place(
        json: &Json,
        config: &Config,
        token: &str,
        object: impl FnOnce(&str) -> String,
    ) -> Self {
        let packed = Packed::new(json, config.compression);
        let place = if packed.size() <= IN_RECORD {
            DocumentPlace::Record
        } else if config.bucket.is_some() && packed.size() > config.offload_above {
            DocumentPlace::Object(object(BODY_OBJECTS[usize::from(packed.is_zstd())]))
        } else {
            beside_record(config, token)
        };
        Self { packed: Some(packed), place }
    }

    /// What the record says of it.
    pub(crate) fn in_record(&self) -> Option<(&'static str, AttributeValue)> {
        match (self.place.to_text(), &self.packed) {
            (Some(at), _) => Some((name::BODY_AT, text(at))),
            (None, Some(packed)) => Some((name::BODY, packed.to_attribute())),
            (None, None) => None,
        }
    }
}

/// The error for a document that is there and is not what was stored.
pub(crate) fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::InvalidJson { line: 0, column: 0, message: format!("the stored document is broken: {error}") }
}

pub(crate) fn unpack(packed: Packed) -> Result<Json> {
    packed.unpack(MAX_DOCUMENT).map_err(|e| broken(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compresses_where_it_helps() {
        let text = format!("\"{}\"", "abc".repeat(1000));
        let json = Json::parse(&text).expect("JSON");
        assert!(!Packed::new(&json, Compression::None).is_zstd());
        let packed = Packed::new(&json, Compression::Zstd);
        assert!(packed.is_zstd() && packed.size() < 200);
        let back = Packed::from_attribute(&packed.to_attribute()).expect("packed");
        assert_eq!(back.unpack(json.size()).expect("unpack"), json);
        assert!(!Packed::new(&Json::parse("1").expect("JSON"), Compression::Zstd).is_zstd());
        assert!(Packed::Zstd(vec![1, 2, 3]).unpack(100).is_err());
    }

    /// A few kilobytes that are half a gigabyte.
    #[test]
    fn what_unpacks_to_more_than_a_document_may_have_is_refused() {
        let zeros = vec![b'0'; 1 << 20];
        let packed = zstd::bulk::compress(&zeros, 1).expect("packed").repeat(512);
        assert!(packed.len() < 64 << 10, "{}", packed.len());
        let error = Packed::Zstd(packed).unpack(3 << 20).expect_err("too large").to_string();
        assert!(error.contains("larger than 3145728 bytes"), "{error}");
    }

    #[test]
    fn goes_where_it_fits() {
        let mut config = Config::new("jobs.fifo");
        let place = |config: &Config, size: usize| {
            let json = Json::from_stored(format!("\"{}\"", "x".repeat(size - 2)));
            Body::place(&json, config, "t", |name| format!("p/{name}")).place
        };
        assert_eq!(place(&config, 512), DocumentPlace::Record);
        let message = place(&config, 513);
        assert_eq!(message, DocumentPlace::Message("body#t".into()));
        assert_eq!(message.to_text().and_then(|t| DocumentPlace::from_text(&t)), Some(message));
        config.keep_bodies = true;
        assert_eq!(place(&config, 512), DocumentPlace::Record);
        assert_eq!(place(&config, 513), DocumentPlace::Item("body#t".into()));
        assert_eq!(place(&config, 100_000), DocumentPlace::Item("body#t".into()));
        config.bucket = Some("b".into());
        assert_eq!(place(&config, 8 << 10), DocumentPlace::Item("body#t".into()));
        let object = place(&config, (8 << 10) + 1);
        assert_eq!(object, DocumentPlace::Object("p/body.json".into()));
        assert_eq!(object.to_text().and_then(|t| DocumentPlace::from_text(&t)), Some(object));
    }
}
