//! What a queue's redrive policy says.

/// Where SQS moves a message that was received too often.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RedrivePolicy {
    pub(crate) arn: String,
    pub(crate) max_receives: i64,
}

impl RedrivePolicy {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let policy: serde_json::Value = serde_json::from_str(text).ok()?;
        let count = policy.get("maxReceiveCount")?;
        // AWS writes a number, and takes and shows a string as well.
        let max_receives = count.as_i64().or_else(|| count.as_str()?.parse().ok())?;
        Some(Self { arn: policy.get("deadLetterTargetArn")?.as_str()?.to_owned(), max_receives })
    }

    pub(crate) fn queue_name(&self) -> &str {
        self.arn.rsplit(':').next().unwrap_or(&self.arn)
    }

    /// The account that the dead-letter queue belongs to.
    pub(crate) fn account(&self) -> Option<String> {
        self.arn.split(':').nth(4).filter(|account| !account.is_empty()).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_redrive_policy() {
        let policy = |count: &str| {
            format!(
                r#"{{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:1:d.fifo","maxReceiveCount":{count}}}"#
            )
        };
        for count in ["4", "\"4\""] {
            let redrive = RedrivePolicy::parse(&policy(count)).expect("a policy");
            assert_eq!((redrive.queue_name(), redrive.max_receives), ("d.fifo", 4));
            assert_eq!(redrive.account().as_deref(), Some("1"));
        }
        assert_eq!(RedrivePolicy::parse("{}"), None);
    }
}
