//! Sends to an SQS queue, and what becomes of those that fail.

use std::time::Duration;

use aws_sdk_sqs::{
    config::retry::RetryConfig,
    error::SdkError,
    types::{MessageAttributeValue, SendMessageBatchRequestEntry},
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures_util::{StreamExt, stream};
use haulage::{Error, JobId, Result, Timestamp};

use crate::{
    schema::{
        envelope::{Envelope, Poison, attributes, hash},
        wire::ATTRIBUTE,
    },
    services::{
        fault::{fault, may_pass},
        queue::{MAX_BATCH, MAX_ROUNDS, Queue, whole_seconds},
        table::{MAX_CALL_BYTES, PARALLEL, batches_of, pause},
    },
};

/// The longest delay of a message (Amazon SQS API Reference, SendMessage).
const MAX_DELAY: Duration = Duration::from_secs(900);

/// A message that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: JobId,
    /// An earlier try may have been taken in, too, with another id.
    pub(crate) maybe_twice: bool,
}

impl Queue {
    /// Sends envelopes; the answers are in their order. Messages of one group are
    /// sent in order.
    pub(crate) async fn send(&self, envelopes: &[Envelope], now: Timestamp) -> Vec<Result<Sent>> {
        self.send_to(&self.url, envelopes, now).await
    }

    /// Sends envelopes to this queue, or to its dead-letter queue.
    pub(crate) async fn send_to(
        &self,
        url: &str,
        envelopes: &[Envelope],
        now: Timestamp,
    ) -> Vec<Result<Sent>> {
        // The attribute's name and type count as well.
        let size = |n: &usize| {
            let envelope = &envelopes[*n];
            envelope.message_body().len() + envelope.options().len() + ATTRIBUTE.len() + "String".len()
        };
        let batches = batches_of((0..envelopes.len()).collect(), MAX_BATCH, MAX_CALL_BYTES, size);
        let ordered = self.fifo && envelopes.iter().any(|envelope| envelope.spec.group.is_some());
        if !ordered {
            let sends = stream::iter(batches).map(|batch| self.send_all(url, envelopes, batch, now));
            let answers: Vec<(Vec<_>, _)> = sends.buffered(PARALLEL).collect().await;
            return answers.into_iter().flat_map(|(answers, _)| answers).collect();
        }
        let mut answers = Vec::with_capacity(envelopes.len());
        let mut broken: Option<Error> = None;
        for batch in batches {
            if let Some(error) = &broken {
                // It would be in its group before what could not be sent.
                answers.extend(batch.iter().map(|_| Err(error.clone())));
                continue;
            }
            let (sent, failure) = self.send_all(url, envelopes, batch, now).await;
            answers.extend(sent);
            broken = failure;
        }
        answers
    }

    /// Sends one batch, and again what is left of it, until all of it is sent or
    /// will not be. Also comes back with why a whole call failed for good.
    async fn send_all(
        &self,
        url: &str,
        envelopes: &[Envelope],
        batch: Vec<usize>,
        now: Timestamp,
    ) -> (Vec<Result<Sent>>, Option<Error>) {
        let mut answers: Vec<Option<Result<Sent>>> = vec![None; batch.len()];
        let mut ambiguous = vec![false; batch.len()];
        let mut failure = None;
        for round in 0..=MAX_ROUNDS {
            let open: Vec<usize> = (0..batch.len()).filter(|n| answers[*n].is_none()).collect();
            if open.is_empty() {
                break;
            }
            if round > 0 {
                pause(round).await;
            }
            let last = round == MAX_ROUNDS;
            let entries =
                open.iter().enumerate().map(|(at, n)| self.entry(at, &envelopes[batch[*n]], now)).collect();
            match self.send_batch(url, entries).await {
                Ok((sent, failed)) => {
                    for (at, id) in sent {
                        let Some(n) = open.get(at).copied() else { continue };
                        answers[n] = Some(Ok(Sent { id: JobId::from(id), maybe_twice: ambiguous[n] }));
                    }
                    for (at, code, error) in failed {
                        let Some(n) = open.get(at).copied() else { continue };
                        ambiguous[n] |= may_pass(&code);
                        if last || !may_pass(&code) {
                            failure.get_or_insert_with(|| error.clone());
                            answers[n] = Some(Err(error));
                        }
                    }
                }
                Err((error, again)) => {
                    for n in open {
                        ambiguous[n] |= again;
                        if last || !again {
                            answers[n] = Some(Err(error.clone()));
                            failure = Some(error.clone());
                        }
                    }
                }
            }
        }
        let missing = || Error::Unavailable {
            message: format!("queue {} did not say what became of a message", self.name),
            source: None,
        };
        (answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(missing()))).collect(), failure)
    }

    fn entry(&self, at: usize, envelope: &Envelope, now: Timestamp) -> SendMessageBatchRequestEntry {
        let mut entry = SendMessageBatchRequestEntry::builder()
            .id(at.to_string())
            .message_body(envelope.message_body())
            .set_message_attributes(Some(attributes(envelope)));
        if self.fifo {
            // A retry of this send within five minutes is the same message.
            let copy = match (&envelope.id, envelope.redrive.filter(|_| envelope.came_from.is_some())) {
                // Whoever copies this death makes the same copy.
                (Some(_), Some(end)) => format!("-{}-{}", end.attempt, end.at.as_micros()),
                (Some(_), None) => format!("-{}", now.as_micros()),
                (None, _) => String::new(),
            };
            entry = entry
                .message_group_id(envelope.sqs_group())
                .message_deduplication_id(format!("{}{copy}", envelope.token));
        } else {
            // FIFO queues take no delay for single messages.
            let delay = envelope.due_at().since(now).min(MAX_DELAY);
            entry = entry.delay_seconds(whole_seconds(delay));
            if envelope.spec.group.is_some() {
                entry = entry.message_group_id(envelope.sqs_group());
            }
        }
        entry.build().expect("id and body are set")
    }

    /// One call. What failed comes back with its place, code and error; a call
    /// that failed as a whole with whether it may pass.
    #[allow(clippy::type_complexity)]
    async fn send_batch(
        &self,
        url: &str,
        entries: Vec<SendMessageBatchRequestEntry>,
    ) -> Result<(Vec<(usize, String)>, Vec<(usize, String, Error)>), (Error, bool)> {
        // Retries are made by `send_to`, which notes what may have been sent twice.
        let once = aws_sdk_sqs::config::Builder::new().retry_config(RetryConfig::disabled());
        let call = self.client().send_message_batch().queue_url(url).set_entries(Some(entries));
        let output = match call.customize().config_override(once).send().await {
            Ok(output) => output,
            Err(error) => {
                let refused =
                    matches!(&error, SdkError::ServiceError(e) if e.raw().status().is_client_error());
                let again = !matches!(error, SdkError::ConstructionFailure(_))
                    && (!refused || error.code().is_some_and(may_pass));
                return Err((fault(format_args!("send to queue {}", self.name), error), again));
            }
        };
        let place = |id: &str| id.parse::<usize>().unwrap_or(usize::MAX);
        let sent = output.successful.into_iter().map(|sent| (place(&sent.id), sent.message_id)).collect();
        let failed = output.failed.into_iter().map(|failed| {
            let said = failed.message.unwrap_or_default();
            let error = Error::Unavailable {
                message: format!("cannot send to queue {}: {}: {said}", self.name, failed.code),
                source: None,
            };
            // Their fault, not ours: it may pass.
            let code =
                if failed.sender_fault { failed.code } else { format!("InternalError {}", failed.code) };
            (place(&failed.id), code, error)
        });
        Ok((sent, failed.collect()))
    }

    /// Puts a message that is no job into the dead-letter queue, as it is.
    pub(crate) async fn dead_letter(&self, poison: &Poison) -> Result<()> {
        let Some(dead) = &self.dead else { return Ok(()) };
        let mut send = self.client().send_message().queue_url(dead).message_body(&poison.body);
        let options = poison.options.iter().map(|options| (ATTRIBUTE, options));
        for (name, text) in options.chain(poison.plain.iter().map(|(name, text)| (name.as_str(), text))) {
            let value = MessageAttributeValue::builder().data_type("String").string_value(text).build();
            if let Ok(value) = value {
                send = send.message_attributes(name, value);
            }
        }
        if self.fifo {
            // Others may have sent another one with the same token.
            let Poison { envelope, options, body, .. } = poison;
            let whole = hash(&format!("{}\n{options:?}\n{body}", envelope.token));
            send = send.message_group_id(envelope.sqs_group()).message_deduplication_id(whole);
        }
        send.send()
            .await
            .map(drop)
            .map_err(|e| fault(format_args!("send to the dead-letter queue of {}", self.name), e))
    }
}
