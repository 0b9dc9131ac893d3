//! What went wrong, and what to do about it.

use std::error::Error;

use aws_sdk_cloudwatch::types::{MetricDataResult, StatusCode};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

/// A call that failed, or an answer that is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The call, by the name of its IAM action.
    pub(crate) operation: &'static str,
    /// AWS's error code, or one of our own where there is none.
    pub(crate) code: String,
    /// What happened.
    pub(crate) reason: String,
    /// What to do.
    pub(crate) advice: String,
}

impl Failure {
    pub(crate) fn new(operation: &'static str, code: &str, reason: impl Into<String>) -> Self {
        let advice = advice(operation, code);
        Self { operation, code: code.to_owned(), reason: reason.into(), advice }
    }

    /// A call that failed, after the SDK's retries.
    pub(crate) fn of_call<E>(operation: &'static str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let code = match error {
            SdkError::ServiceError(answer) => match answer.err().code() {
                Some(code) => code.to_owned(),
                None => format!("HTTP{}", answer.raw().status().as_u16()),
            },
            SdkError::TimeoutError(_) => "Timeout".to_owned(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => "Timeout".to_owned(),
            SdkError::DispatchFailure(_) => "Unreachable".to_owned(),
            SdkError::ResponseError(_) => "UnreadableAnswer".to_owned(),
            _ => "NotSent".to_owned(),
        };
        let told = error.as_service_error().and_then(ProvideErrorMetadata::message).map(str::to_owned);
        Self::new(operation, &code, told.unwrap_or_else(|| chain(error)))
    }

    /// A metric that could not be read, though others of the call could.
    pub(crate) fn of_result(operation: &'static str, code: &StatusCode, result: &MetricDataResult) -> Self {
        let why: Vec<_> = result.messages().iter().filter_map(|message| message.value()).collect();
        Self::new(operation, code.as_str(), why.join("; "))
    }

    /// A call without an answer in time.
    pub(crate) fn late(operation: &'static str) -> Self {
        Self::new(operation, "Deadline", "there was no answer in the time that a sample has for it")
    }

    /// Whether a call for several may have been refused for what one of them is.
    pub(crate) fn may_concern_one(&self) -> bool {
        is_denied(&self.code) || self.is_invalid() || self.code == "ClientException"
    }

    /// Whether it was refused for what was sent, and will be again.
    pub(crate) fn is_invalid(&self) -> bool {
        is_invalid(&self.code)
    }
}

fn is_invalid(code: &str) -> bool {
    code.starts_with("InvalidParameter") || code.starts_with("Validation")
}

fn is_denied(code: &str) -> bool {
    code.contains("AccessDenied") || matches!(code, "AuthorizationError" | "UnauthorizedOperation")
}

fn advice(operation: &str, code: &str) -> String {
    match code {
        _ if is_denied(code) => {
            return format!("allow {operation} to the role of this Lambda; terraform apply does");
        }
        "QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue" => {
            "the queue is gone, or queue_url is wrong; correct it, or take the pair out of the event"
        }
        "ClusterNotFoundException" => {
            "the cluster is gone, or its name is wrong; correct it, or take the pair out of the event"
        }
        "MISSING" | "INACTIVE" => {
            "the service is gone, or its name is wrong; correct it, or take the pair out of the event"
        }
        _ if is_invalid(code) => {
            "AWS refuses what it was sent, and the message says why; correct that in the event, or take the \
             pair out of it"
        }
        "Timeout" | "Unreachable" => {
            "AWS was not reached. The next sample tries again; if it goes on, see the status of AWS, and that \
             the Lambda is not in a VPC without a way to this service"
        }
        "Deadline" => {
            "the next sample tries again; if it goes on, see that the Lambda is not in a VPC without a way to \
             this service, and the status of AWS; with many pairs, give the Lambda more memory_size, and \
             with it more CPU"
        }
        "ExpiredToken" | "ExpiredTokenException" | "InvalidClientTokenId" | "UnrecognizedClientException" => {
            "AWS does not take the credentials; is the role of this Lambda still there?"
        }
        _ if code.contains("Throttl")
            || code == "RequestLimitExceeded"
            || code.contains("TooManyRequests") =>
        {
            "the next sample tries again; if it goes on, lower samples_per_minute, or ask AWS for a higher quota \
             of this call"
        }
        _ => "the next sample tries again; if it goes on, look up the code in the API reference of the service",
    }
    .to_owned()
}

/// An error with its causes, in one line. `haulage` has the same, but this crate is to depend on
/// nothing of it: the Lambda is small for that.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_to_do() {
        let call = "sqs:GetQueueAttributes";
        for (code, expected) in [
            ("AccessDenied", "allow sqs:GetQueueAttributes to the role"),
            ("AccessDeniedException", "allow sqs:GetQueueAttributes to the role"),
            ("AWS.SimpleQueueService.NonExistentQueue", "queue_url is wrong"),
            ("ClusterNotFoundException", "the cluster is gone"),
            ("MISSING", "the service is gone"),
            ("RequestThrottled", "lower samples_per_minute"),
            ("ThrottlingException", "lower samples_per_minute"),
            ("Unreachable", "not in a VPC"),
            ("Deadline", "not in a VPC"),
            ("InvalidParameterValue", "correct that in the event"),
            ("ValidationError", "correct that in the event"),
            ("ExpiredTokenException", "role of this Lambda"),
            ("InternalFailure", "API reference"),
        ] {
            let failure = Failure::new(call, code, "because");
            assert!(failure.advice.contains(expected), "{code}: {}", failure.advice);
        }
    }
}
