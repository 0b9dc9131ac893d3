//! How messages in our hands go back to the queue: hidden for a while, shown,
//! or replaced where SQS would not keep them.
//!
//! SQS hides a message for 12 hours from its receive, and no longer; it keeps
//! one for the queue's retention, and hands one out so many times, and then
//! moves or deletes it on its own. A new message for the same job takes over
//! before that.

use std::{sync::Arc, time::Duration};

use haulage::{JobId, QueueName, Result, Timestamp, backend::ClaimKey};
use tracing::warn;

use crate::{
    delivery::deduplication,
    schema::{
        envelope::Envelope,
        item::{self, Row},
    },
    services::{
        queue::{MAX_VISIBILITY, Queue},
        queues::by_queue,
    },
    state::{Inner, Shared, in_flight::Received},
};

/// What is left of the 12 hours when a hide ends at the latest: time between
/// our clock and that of SQS, and for the call.
const VISIBILITY_LEFT: Duration = Duration::from_secs(300);
/// How long before the end of its retention a message is replaced; half of the
/// retention, where that is less.
const RETENTION_LEFT: Duration = Duration::from_secs(24 * 3600);

/// What SQS lets one do with a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For how long it can be hidden, from its receive on.
    pub(crate) visibility: Duration,
    /// For how long it is kept, from its send on.
    pub(crate) retention: Duration,
    /// How often it is handed out.
    pub(crate) receives: Option<i64>,
}

impl Limits {
    pub(crate) fn new(visibility: Duration, retention: Duration, receives: Option<i64>) -> Self {
        Self { visibility: visibility.min(MAX_VISIBILITY - VISIBILITY_LEFT), retention, receives }
    }

    /// How long before the end of its retention a message is replaced.
    pub(crate) fn reserve(&self) -> Duration {
        RETENTION_LEFT.min(self.retention / 2)
    }

    /// Until when a message that was received at this moment can be hidden.
    pub(crate) fn latest_hide(&self, received_at: Timestamp) -> Timestamp {
        received_at.after(self.visibility)
    }

    /// How long to hide a message that is wanted again after `time`: not for so
    /// long that it is gone when it could show.
    pub(crate) fn hide_for(&self, message: &Received, time: Duration, now: Timestamp) -> Duration {
        let shown = self.latest_hide(message.received_at).since(now);
        let kept = message.sent_at.after(self.retention.saturating_sub(self.reserve() / 2)).since(now);
        // What is as good as gone is hidden as asked, and replaced if it can be.
        time.min(shown).min(if kept.is_zero() { time } else { kept })
    }

    /// Whether SQS is about to move or delete the message on its own.
    pub(crate) fn is_last_chance(&self, message: &Received, now: Timestamp) -> bool {
        self.is_last_receive(message)
            || now > message.sent_at.after(self.retention.saturating_sub(self.reserve()))
    }

    /// Whether a message that stays in our hands for another `time` needs
    /// another one beside it.
    pub(crate) fn is_last_chance_while_held(
        &self,
        message: &Received,
        time: Duration,
        now: Timestamp,
    ) -> bool {
        let left = (self.reserve() / 4).max(time);
        self.is_last_receive(message) || now > message.sent_at.after(self.retention.saturating_sub(left))
    }

    /// (Where SQS hands a message out once only, nothing helps.)
    fn is_last_receive(&self, message: &Received) -> bool {
        self.receives.is_some_and(|max| max > 1 && message.receives >= max)
    }
}

impl Inner {
    pub(crate) fn limits(&self, queue: &Queue) -> Limits {
        Limits::new(self.config.visibility_limit, queue.retention, queue.max_receives)
    }

    /// Gives messages back, each to show again after its time. One that SQS would
    /// not keep for so long is replaced; if it is of a group, it is the last of
    /// that then, which is better than a lost job.
    pub(crate) async fn give_back(&self, messages: Vec<(Received, Duration)>) {
        let messages = messages.into_iter().map(|(message, time)| (message.queue.clone(), (message, time)));
        for (queue, messages) in by_queue(messages) {
            self.give_back_to(&queue, messages).await;
        }
    }

    async fn give_back_to(&self, queue: &Arc<Queue>, messages: Vec<(Received, Duration)>) {
        let (limits, now) = (self.limits(queue), self.now());
        let (last, others): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|(message, _)| limits.is_last_chance(message, now));
        let mut hide: Vec<_> = others
            .into_iter()
            .map(|(message, time)| {
                let time = limits.hide_for(&message, time, now);
                (message.receipt, time)
            })
            .collect();
        for (mut message, time) in last {
            match self.ensure_replaced(&mut message).await {
                Ok(true) => {
                    let at_once = message.is_grouped();
                    self.queues.delete(queue, message.receipt, at_once);
                }
                Ok(false) => hide.push((message.receipt, time)),
                Err(error) => {
                    warn!(%error, job_id = %message.id, "its message may end in the dead-letter queue");
                    let time = limits.hide_for(&message, time, now);
                    hide.push((message.receipt, time));
                }
            }
        }
        queue.hide_in_order(hide).await;
    }

    /// Gives the message of a job back that is in somebody's hands. In a group
    /// it stays where it is, also where another one takes over: as long as it is
    /// there, nothing that comes after it is handed out.
    pub(crate) async fn leave_to_holder(&self, mut message: Received, time: Duration) {
        let (limits, now) = (self.limits(&message.queue), self.now());
        if !message.queue.fifo || !limits.is_last_chance(&message, now) {
            return self.give_back(vec![(message, time)]).await;
        }
        if let Err(error) = self.ensure_replaced(&mut message).await {
            warn!(%error, job_id = %message.id, "its message may end in the dead-letter queue");
        }
        let time = limits.hide_for(&message, time, now);
        message.queue.hide(vec![(message.receipt, time)]).await;
    }

    /// Shows messages again, at once and in order.
    pub(crate) async fn show_again(&self, messages: impl IntoIterator<Item = Received>) {
        self.give_back(messages.into_iter().map(|message| (message, Duration::ZERO)).collect()).await;
    }

    /// Sees to it that there is another message for the job of one that SQS is
    /// about to move or delete. Tells whether there is; a message that is no job
    /// stays what it is.
    pub(crate) async fn ensure_replaced(&self, message: &mut Received) -> Result<bool> {
        if !message.replaced {
            message.replaced = self.replace(message).await?;
        }
        Ok(message.replaced)
    }

    /// Sends a new message for the same job, in the same group. Tells whether
    /// there was one to send: what is no job's, or of one that is over, has none.
    pub(crate) async fn replace(&self, message: &Received) -> Result<bool> {
        let Ok(envelope) = &message.envelope else { return Ok(false) };
        let (id, proof) = match self.to_speak_for(message, envelope, &message.queue).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(false),
            // The table is away, and the job must not be lost meanwhile. It has a record
            // with this proof, or will have.
            Err(_) if envelope.key.is_none() && !message.is_foreign() => {
                (message.id.clone(), envelope.proof.clone())
            }
            Err(error) => return Err(error),
        };
        let copy = envelope.speaking_for(id, proof);
        match message.queue.send(&[copy], self.now()).await.pop() {
            Some(sent) => sent.map(|_| true),
            None => Ok(false),
        }
    }
}

impl Inner {
    /// Forgets a claim that is lost. Its message belongs to whoever receives it;
    /// what followed it in its group shows again.
    pub(crate) fn drop_hold(self: &Shared, key: &ClaimKey) {
        if let Some(hold) = self.in_flight.remove(key)
            && !hold.followers.is_empty()
        {
            warn!(job_id = %key.id, "its claim was lost; what follows in its group shows again");
            let inner = self.clone();
            self.tasks.spawn(async move { inner.show_again(hold.followers).await });
        }
    }

    /// Sends on what another program has sent to another queue of the store than its job
    /// is for. The message can be deleted then; whoever receives it again before that does the
    /// same, and the record decides.
    pub(crate) async fn send_on(
        &self,
        message: &Received,
        envelope: &Envelope,
        to: &QueueName,
    ) -> Result<()> {
        let queue = self.queues.get(to).await?;
        if let Some((id, proof)) = self.to_speak_for(message, envelope, &queue).await?
            && let Some(sent) = queue.send(&[envelope.speaking_for(id, proof)], self.now()).await.pop()
        {
            sent?;
        }
        Ok(())
    }

    /// The job that a message is for, and what another one has to say to speak for it.
    /// Where it has no record yet, it gets one, as a job of this queue.
    async fn to_speak_for(
        &self,
        message: &Received,
        envelope: &Envelope,
        queue: &Queue,
    ) -> Result<Option<(JobId, String)>> {
        // It has been proved, or will not be.
        if message.needs_proof() {
            return Ok(Some((message.id.clone(), envelope.proof.clone())));
        }
        let mut round = 0;
        loop {
            self.store.give_up_after(round, &message.id)?;
            round += 1;
            if let Some(row) = self.store.table.get(message.id.as_str()).await?.and_then(Row::of) {
                if row.is_over() {
                    return Ok(None);
                }
                match self.store.proof(&row).await? {
                    Some(proof) => return Ok(Some((message.id.clone(), proof))),
                    None => continue,
                }
            }
            // Whoever reads the other message has to find a record with the proof.
            match deduplication::job_of(self, &message.queue, envelope, &message.id).await? {
                Some(job) if job == message.id => {
                    if message.is_foreign() {
                        self.store_bodies(&[envelope]).await?;
                    }
                    let item = item::submitted(&job, envelope, &queue.name);
                    self.store.table.insert(vec![item]).await.pop().transpose().map_err(|not| not.error)?;
                }
                Some(job) => return Ok(Some((job, envelope.proof.clone()))),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::in_flight::tests::received;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn hides_for_no_longer_than_sqs_allows() {
        let limits = Limits::new(12 * HOUR, 14 * DAY, None);
        let now = Timestamp::from_micros(0).after(100 * DAY);
        let message = received("a", now.before(HOUR), now.before(HOUR));
        assert_eq!(limits.hide_for(&message, HOUR, now), HOUR);
        // The hour that it has been held counts, and some minutes are to spare.
        assert_eq!(limits.hide_for(&message, 20 * HOUR, now), 11 * HOUR - Duration::from_secs(300));
        let long_held = received("a", now.before(13 * HOUR), now.before(13 * HOUR));
        assert_eq!(limits.hide_for(&long_held, HOUR, now), Duration::ZERO);
    }

    #[test]
    fn no_message_expires_while_it_is_hidden() {
        for retention in [HOUR, DAY, 4 * DAY, 14 * DAY] {
            let limits = Limits::new(12 * HOUR, retention, None);
            // As long as a message is hidden over and over, it is seen in time.
            let sent = Timestamp::from_micros(0).after(100 * DAY);
            let mut now = sent.after(Duration::from_secs(1));
            let mut looks = 0;
            loop {
                let message = received("a", sent, now);
                if limits.is_last_chance(&message, now) {
                    break;
                }
                now = now.after(limits.hide_for(&message, 365 * DAY, now));
                looks += 1;
                assert!(looks < 100, "{retention:?}");
            }
            assert!(now < sent.after(retention), "{retention:?}");
        }
    }

    #[test]
    fn the_last_receive_is_known() {
        let limits = Limits::new(12 * HOUR, 14 * DAY, Some(3));
        let now = Timestamp::from_micros(0).after(100 * DAY);
        let mut message = received("a", now, now);
        message.receives = 2;
        assert!(!limits.is_last_chance(&message, now));
        message.receives = 3;
        assert!(limits.is_last_chance(&message, now));
        assert!(!Limits { receives: Some(1), ..limits }.is_last_chance(&message, now), "nothing helps");
    }

    #[test]
    fn a_message_that_is_held_is_replaced_in_time() {
        let limits = Limits::new(12 * HOUR, DAY, None);
        let sent = Timestamp::from_micros(0).after(100 * DAY);
        let message = received("a", sent, sent.after(11 * HOUR));
        let at = |hours: u32| limits.is_last_chance_while_held(&message, HOUR, sent.after(hours * HOUR));
        assert_eq!([12, 20, 22, 23].map(at), [false, false, true, true]);
    }
}
