//! Job ids of the embedded backend.
//!
//! An id is a UUIDv7 (RFC 9562) whose lower bits hold the job's place in the
//! file. So a job is found without an index over ids, which would cost an
//! entry for each job and a search in it for each settle.
//!
//! ```text
//! 48 bits   milliseconds since the Unix epoch, of the submit
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

/// A new id for the job in row `seq`.
pub(super) fn make(now: Timestamp, seq: i64) -> Uuid {
    let millis = u64::try_from(now.as_micros() / 1_000).unwrap_or(0);
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
            let id = make(now, row);
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
        let now = Timestamp::from_micros(0);
        assert_ne!(make(now, 1), make(now, 1));
    }
}
