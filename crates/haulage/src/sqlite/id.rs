//! Job ids of the embedded backend.
//!
//! An id is a UUIDv7 (RFC 9562) whose lower bits hold the job's place in the
//! file. So a job is found without an index over ids, which would cost an
//! entry for each job and a search in it for each settle.
//!
//! ```text
//! 48 bits   milliseconds since the Unix epoch, of the submit or of a job before it
//! 4 + 12    version 7, random
//! 2 + 44    variant, the row number: enough for 18 years at 30,000 jobs a second
//! 18        random
//! ```

use uuid::{Builder, Uuid};

use crate::{JobId, Timestamp};

const RANDOM_BITS: u32 = 18;
const SEQ_BITS: u32 = 44;

/// The largest row number that fits.
pub(super) const MAX_SEQ: i64 = (1 << SEQ_BITS) - 1;

/// The milliseconds in an id of now. They never go back: ids are in the order of
/// their rows, so that a row can be found by the beginning of its id. Where the
/// clock was set back, they stay at those of the last id until it is past them.
pub(super) fn millis(now: Timestamp, last: Option<Uuid>) -> u64 {
    let last = last.map_or(0, millis_of);
    u64::try_from(now.as_micros() / 1_000).unwrap_or(0).max(last)
}

/// The milliseconds in an id.
pub(super) fn millis_of(id: Uuid) -> u64 {
    id.as_u64_pair().0 >> 16
}

/// A new id for the job in row `seq`.
pub(super) fn make(millis: u64, seq: i64) -> Uuid {
    let place = u64::try_from(seq).unwrap_or(0) << RANDOM_BITS;
    let low = place | fastrand::u64(..1 << RANDOM_BITS);
    let mut bits = [0; 10];
    bits[..2].copy_from_slice(&fastrand::u16(..).to_be_bytes());
    bits[2..].copy_from_slice(&low.to_be_bytes());
    Builder::from_unix_timestamp_millis(millis, &bits).into_uuid()
}

/// The row that the id names; whether it holds this job has to be looked at.
pub(super) fn seq(id: Uuid) -> i64 {
    let (_, low) = id.as_u64_pair();
    i64::try_from(low >> RANDOM_BITS).unwrap_or(0) & MAX_SEQ
}

/// The first and the last id that begin so; `None` where none can.
pub(super) fn range(prefix: &str) -> Option<(Uuid, Uuid)> {
    let model = show(Uuid::nil());
    let rest = model.as_str().get(prefix.len()..)?;
    let fill = |digit: &str| Uuid::try_parse(&format!("{prefix}{}", rest.replace('0', digit))).ok();
    let (first, last) = (fill("0")?, fill("f")?);
    show(first).as_str().starts_with(prefix).then_some((first, last))
}

/// The id as users see it.
pub(super) fn show(id: Uuid) -> JobId {
    let mut text = Uuid::encode_buffer();
    JobId::from(&*id.hyphenated().encode_lower(&mut text))
}

/// The id as it is stored; `None` for what no embedded backend ever gave.
pub(super) fn parse(id: &JobId) -> Option<Uuid> {
    Uuid::try_parse(id.as_str()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_that_lead_back_to_their_rows() {
        let now = Timestamp::from_micros(1_700_000_000_123_456);
        for row in [1, 2, 77_777, MAX_SEQ] {
            let id = make(millis(now, None), row);
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            assert_eq!(id.get_timestamp().map(|t| t.to_unix()), Some((1_700_000_000, 123_000_000)));
            assert_eq!(seq(id), row);
            assert_eq!(parse(&show(id)), Some(id));
        }
        assert_eq!(parse(&JobId::from("nonsense")), None);
    }

    #[test]
    fn ids_of_one_moment_and_row_differ() {
        assert_ne!(make(0, 1), make(0, 1));
    }
    #[test]
    fn ids_follow_their_rows_also_where_the_clock_is_set_back() {
        let later = make(millis(Timestamp::from_micros(9_000_000), None), 1);
        let back = make(millis(Timestamp::from_micros(1_000_000), Some(later)), 2);
        assert_eq!(millis_of(back), 9_000);
        assert_eq!(millis(Timestamp::from_micros(10_000_000), Some(back)), 10_000);
    }

    #[test]
    fn the_range_of_a_prefix_has_the_ids_that_begin_so() {
        let show = |prefix| range(prefix).map(|(first, last)| (first.to_string(), last.to_string()));
        let expected = |first: &str, last: &str| Some((first.to_owned(), last.to_owned()));
        assert_eq!(
            show("0193a1b2"),
            expected("0193a1b2-0000-0000-0000-000000000000", "0193a1b2-ffff-ffff-ffff-ffffffffffff")
        );
        assert_eq!(
            show("0193a1b2-7"),
            expected("0193a1b2-7000-0000-0000-000000000000", "0193a1b2-7fff-ffff-ffff-ffffffffffff")
        );
        let whole = "0193a1b2-7c00-7000-8000-00000004d2f1";
        assert_eq!(show(whole), expected(whole, whole));
        for none in ["0193A1B2", "0193a1b2x", "0193a1b27c", "ä", &format!("{whole}0"), "0193a1b2--"] {
            assert_eq!(show(none), None, "{none}");
        }
    }
}
