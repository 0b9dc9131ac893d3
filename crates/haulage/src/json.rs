//! JSON documents, kept exactly as they were given.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::Error;

/// A JSON document as text: the body of a job, or its result.
///
/// The text is stored and returned as it came, so that every value survives
/// exactly: 64-bit integers, the order of keys, and numbers that no
/// floating-point type holds. Cloning is cheap.
///
/// Rust's `f64::NAN` and infinities have no JSON form; serde_json writes them
/// as `null`, and so does [`Json::encode`].
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Json {
    /// Checks that `text` is one JSON document. White space around it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidJson`] with the line and column of the first mistake.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // `IgnoredAny` walks the whole document without building it.
        serde_json::from_str::<serde::de::IgnoredAny>(text)?;
        Ok(Self(text.trim_matches([' ', '\t', '\r', '\n']).into()))
    }

    /// Like [`Json::parse`], for bytes that may not even be UTF-8.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidJson`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(e) => {
                let before = &bytes[..e.valid_up_to()];
                let line = before.iter().filter(|b| **b == b'\n').count() + 1;
                let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
                Err(Error::InvalidJson {
                    line,
                    column: before.len() - start + 1,
                    message: "invalid UTF-8".into(),
                })
            }
        }
    }

    /// Encodes any serialisable value.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidJson`] where the value has no JSON form, such as a map
    /// whose keys are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        Ok(Self(serde_json::to_string(value)?.into()))
    }

    /// Takes text that is known to be JSON, because a backend stored it.
    pub fn from_stored(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Decodes the document into a type.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidJson`] where the document does not fit the type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_str(&self.0)?)
    }

    /// The document as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text without white space between its parts: two documents that
    /// differ in that alone are the same. The order of keys still counts.
    pub fn compact(&self) -> Cow<'_, str> {
        let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        let (mut in_string, mut escaped) = (false, false);
        let is_significant = |c: &char| {
            if in_string {
                in_string = escaped || *c != '"';
                escaped = !escaped && *c == '\\';
                return true;
            }
            in_string = *c == '"';
            !is_space(*c)
        };
        if self.0.contains(is_space) {
            Cow::Owned(self.0.chars().filter(is_significant).collect())
        } else {
            Cow::Borrowed(&self.0)
        }
    }

    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get().into()))
    }
}

/// Reads a document that is there: `null` is one, too, and not the lack of one.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_text_exactly() {
        for text in ["null", "0", "\"\"", "[]", "false", "18446744073709551615", "1e400", "{\"b\":1,\"a\":2}"]
        {
            let json = Json::parse(&format!(" {text}\n")).expect(text);
            assert_eq!(json.as_str(), text);
            assert_eq!(serde_json::to_string(&json).expect(text), text);
        }
    }

    #[test]
    fn says_where_the_mistake_is() {
        let error = Json::parse("{\n  \"a\": nope\n}").expect_err("not JSON").to_string();
        assert!(error.contains("line 2 column 9"), "{error}");
        let error = Json::from_slice(b"[1,\n\"\xff\"]").expect_err("not UTF-8").to_string();
        assert!(error.contains("line 2 column 2"), "{error}");
        assert!(Json::parse("").is_err());
        assert!(Json::parse("1 2").is_err());
        assert!(Json::parse("NaN").is_err());
    }
}
