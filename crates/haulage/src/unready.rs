//! Workers that are not ready for jobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{QueueName, Timestamp};

/// Why a worker takes no jobs, as it says itself: see
/// [`Backend::set_unready`](crate::Backend::set_unready).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unready {
    /// The queues that it serves.
    pub queues: Vec<QueueName>,
    /// What it lacks, in a line, in the words of its handler or its probe. At most
    /// [`Unready::MAX_REASON_BYTES`] long.
    pub reason: String,
    /// Since when it has not been ready.
    pub since: Timestamp,
}

impl Unready {
    /// How long a backend knows of it after it was told last: a minute. A worker tells it again well
    /// before; one that was killed does not.
    pub const KEPT: Duration = Duration::from_secs(60);
    /// How many workers a backend knows at most: 256. Of further ones it takes note when there are fewer again.
    pub const MOST: usize = 256;
    /// The longest reason, in bytes: 4 KiB.
    pub const MAX_REASON_BYTES: usize = 4096;

    /// With as much of the reason as there may be.
    pub fn new(queues: impl IntoIterator<Item = QueueName>, reason: &str, since: Timestamp) -> Self {
        let reason = &reason[..reason.floor_char_boundary(Self::MAX_REASON_BYTES)];
        Self { queues: queues.into_iter().collect(), reason: reason.to_owned(), since }
    }

    /// Whether what was told then is known now. A clock that was set back makes nothing last longer.
    pub(crate) fn is_kept(told_at: Timestamp, now: Timestamp) -> bool {
        told_at <= now && now.since(told_at) < Self::KEPT
    }
}
