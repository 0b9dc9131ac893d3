//! What the queues of a store are called in SQS.
//!
//! The store `sqs://jobs.fifo` has its jobs in the queue `jobs.fifo`, and those of its
//! queue `bulk` in `jobs--bulk.fifo`. So a name says whose queue it is: a policy for
//! `jobs--*` allows the named ones of one store, and no store has those of another.

use haulage::{Error, QueueName, Result};

/// What is between the store's name and the queue's.
pub(crate) const BETWEEN: &str = "--";
/// Amazon SQS API Reference, CreateQueue.
const MAX_LENGTH: usize = 80;

/// The name without what says that it is a FIFO queue, and that.
fn split(name: &str) -> (&str, &str) {
    match name.strip_suffix(".fifo") {
        Some(stem) => (stem, ".fifo"),
        None => (name, ""),
    }
}

/// What a queue of this store is called in SQS.
pub(crate) fn in_sqs(store: &str, queue: &QueueName) -> Result<String> {
    if queue.is_default() {
        return Ok(store.to_owned());
    }
    let (stem, end) = split(store);
    let name = format!("{stem}{BETWEEN}{queue}{end}");
    let refused = |why: String| Err(Error::Invalid(format!("{queue:?} cannot be a queue of SQS: {why}")));
    if queue.as_str().contains('.') {
        return refused("its name has a dot, which SQS does not allow".into());
    }
    if name.len() > MAX_LENGTH {
        return refused(format!("{name} would be longer than {MAX_LENGTH} characters"));
    }
    if of_sqs(&name) != (store.to_owned(), queue.clone()) {
        return refused(format!("{store} ends in a hyphen, so {name} would be a queue of another store"));
    }
    Ok(name)
}

/// The store that a queue of SQS belongs to, and what it is called there.
pub(crate) fn of_sqs(name: &str) -> (String, QueueName) {
    let (stem, end) = split(name);
    let parts =
        stem.split_once(BETWEEN).and_then(|(store, queue)| Some((store, QueueName::new(queue).ok()?)));
    match parts {
        Some((store, queue)) if !store.is_empty() => (format!("{store}{end}"), queue),
        _ => (name.to_owned(), QueueName::default()),
    }
}

/// With what the names of a store's queues begin, but for the default one's.
pub(crate) fn prefix(store: &str) -> String {
    format!("{}{BETWEEN}", split(store).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).expect("a name")
    }

    #[test]
    fn a_name_in_sqs_says_whose_queue_it_is() {
        for (store, name, in_sqs_as) in [
            ("jobs.fifo", "default", "jobs.fifo"),
            ("jobs.fifo", "bulk", "jobs--bulk.fifo"),
            ("jobs", "bulk", "jobs--bulk"),
            ("my-jobs", "a--b", "my-jobs--a--b"),
            ("jobs", "-a", "jobs---a"),
        ] {
            assert_eq!(in_sqs(store, &queue(name)).expect(name), in_sqs_as);
            assert_eq!(of_sqs(in_sqs_as), (store.to_owned(), queue(name)));
        }
        assert_eq!(prefix("jobs.fifo"), "jobs--");
        assert_eq!(of_sqs("--jobs"), ("--jobs".to_owned(), QueueName::default()));
    }

    #[test]
    fn what_sqs_cannot_have_is_refused_with_the_reason() {
        let long = "x".repeat(75);
        for (store, name, why) in [
            ("jobs.fifo", "team.bulk", "has a dot"),
            ("jobs.fifo", long.as_str(), "longer than 80 characters"),
            ("jobs-", "bulk", "ends in a hyphen"),
        ] {
            let error = in_sqs(store, &queue(name)).expect_err(name).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
