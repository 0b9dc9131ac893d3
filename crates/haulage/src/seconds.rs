//! Durations in JSON: a number of seconds, to the microsecond. What people write, as
//! in `"5m"`, is read as well.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error, Visitor},
};

/// Reads a time as people write it: `90s`, `5m`, `1h30m`, `2d`.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    // humantime would panic where the sum is the longest that there is, and a second over that. With
    // numbers of this length, and so many of them, no sum comes near it.
    let longest = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    if text.chars().count() > 100 || longest.is_some_and(|digits| digits > 10) {
        return Err("it is too long".to_owned());
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match duration.subsec_nanos() {
        0 => serializer.serialize_u64(duration.as_secs()),
        // So long that its fraction is lost in the number anyway.
        _ if duration.as_secs() > u64::from(u32::MAX) * 1000 => serializer.serialize_u64(duration.as_secs()),
        // As text, the number has no more digits than needed.
        _ => serializer.serialize_f64(duration.as_micros() as f64 / 1e6),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Seconds)
}

struct Seconds;

impl Visitor<'_> for Seconds {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds, or a time like \"90s\" or \"5m\"")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        let not_negative = u64::try_from(seconds);
        not_negative
            .map(Duration::from_secs)
            .map_err(|_| E::custom(format!("{seconds} is not a number of seconds")))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        let duration = Duration::try_from_secs_f64(seconds)
            .map_err(|_| E::custom(format!("{seconds} is not a number of seconds")))?;
        // A fraction has no more digits than that.
        let micros = duration.as_nanos().saturating_add(500) / 1000;
        Ok(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).map_err(|error| {
            E::custom(format!("{text:?} is not a time: {error}; write it like \"90s\", \"5m\" or \"1h30m\""))
        })
    }
}

pub(crate) mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    #[derive(Deserialize)]
    struct Seconds(#[serde(with = "super")] Duration);

    #[allow(clippy::ref_option)] // as serde calls it
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Seconds>::deserialize(deserializer)?.map(|seconds| seconds.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_as_people_write_it() {
        for (text, millis) in [("90s", 90_000), ("1h 30m", 5_400_000), ("1.25h", 4_500_000), ("0", 0)] {
            assert_eq!(parse_duration(text).map(|time| time.as_millis()), Ok(millis), "{text}");
        }
        assert_eq!(parse_duration("9999999999y").map(|time| time.as_secs()), Ok(9_999_999_999 * 31_557_600));
    }

    #[test]
    fn no_text_is_too_much_for_it() {
        let longest = "9999999999y ".repeat(8);
        assert!(parse_duration(&longest).is_ok());
        let many = "9999999999y".repeat(10);
        for text in ["18446744073709551615s 1000000000ns", &many, "10000000000.5s", "1.5", "1 x", "-1s", ""] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
