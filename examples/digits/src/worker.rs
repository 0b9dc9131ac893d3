//! The network as the handler of a queue.

use std::sync::Arc;

use haulage::{Backend, Consumer, Context, Failure, Job};

use crate::{Classifier, Input};

/// A consumer that classifies images from `backend`.
///
/// The weights are loaded once, before the first job. Classifying is a matter
/// of microseconds, so the handler is an `async` one; work that keeps a core
/// busy for longer belongs into a `blocking_handler`.
///
/// # Errors
///
/// Where the weights or the consumer's settings are unusable.
pub fn consumer(backend: Arc<dyn Backend>) -> Result<Consumer, Box<dyn std::error::Error>> {
    let classifier = Arc::new(Classifier::embedded()?);
    let consumer = Consumer::builder(backend)
        .concurrency(16)
        .handler(move |job: Job<Input>, _: Context| {
            let classifier = Arc::clone(&classifier);
            async move { Ok::<_, Failure>(classifier.classify(&job.body)) }
        })
        .build()?;
    Ok(consumer)
}
