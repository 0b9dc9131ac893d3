//! The errors of the SDK, as errors of Haulage.

use std::error::Error as StdError;

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use haulage::Error;

/// What went wrong, for somebody who has to mend it. `what` completes
/// "cannot …": `receive from queue jobs.fifo`.
pub(crate) fn fault<E>(what: impl std::fmt::Display, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let said = error.message().unwrap_or_default().to_owned();
    if is_missing(&code) {
        return Error::Config(format!(
            "cannot {what}: it does not exist in this region and account ({code}); \
             check the name and the region, or make it with `haulage queue create`"
        ));
    }
    if is_denied(&code) {
        let message = format!(
            "cannot {what}: access denied ({said}); `haulage doctor` shows which permissions are missing"
        );
        return Error::unavailable(message, error);
    }
    let message = match &error {
        SdkError::ServiceError(_) if code.is_empty() && said.is_empty() => {
            let status = error.raw_response().map_or(0, |response| response.status().as_u16());
            format!("cannot {what}: the service answered with HTTP status {status}")
        }
        SdkError::ServiceError(_) => format!("cannot {what}: {code}: {said}"),
        SdkError::TimeoutError(_) => format!("cannot {what}: no answer in time"),
        _ if lacks_credentials(&error) => format!(
            "cannot {what}: no AWS credentials ({}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or \
             AWS_PROFILE, or run with a role",
            root(&error)
        ),
        SdkError::DispatchFailure(_) => format!(
            "cannot {what}: AWS cannot be reached ({}); check the network, the region and AWS_ENDPOINT_URL",
            root(&error)
        ),
        _ => format!("cannot {what}: {}", root(&error)),
    };
    Error::unavailable(message, error)
}

/// Whether the thing that was named is not there.
pub(crate) fn is_missing(code: &str) -> bool {
    matches!(
        code,
        "QueueDoesNotExist"
            | "AWS.SimpleQueueService.NonExistentQueue"
            | "ResourceNotFoundException"
            | "NoSuchBucket"
    )
}

/// Whether a policy is in the way.
pub(crate) fn is_denied(code: &str) -> bool {
    matches!(
        code,
        "AccessDenied"
            | "AccessDeniedException"
            | "AccessDeniedFault"
            | "UnauthorizedOperation"
            | "KMS.AccessDeniedException"
            | "KmsAccessDenied"
            | "AllAccessDisabled"
    )
}

/// Whether a part of a batch failed for a reason that passes.
pub(crate) fn may_pass(code: &str) -> bool {
    [
        "Throttl",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "InternalServerError",
        "InternalError",
        "InternalFailure",
        "ServiceUnavailable",
        "TransactionConflict",
        "OverLimit",
    ]
    .iter()
    .any(|known| code.contains(known))
}

/// Whether the call was not even made, as nobody is there to sign it. The SDK
/// has no type for that which could be asked.
fn lacks_credentials(error: &(dyn StdError + 'static)) -> bool {
    causes(error).iter().any(|text| text.contains("credential") || text.contains("IMDS"))
}

/// What an error came from, outermost first.
fn causes(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts.dedup();
    texts
}

/// The innermost cause, which says most.
fn root(error: &(dyn StdError + 'static)) -> String {
    let mut texts = causes(error);
    // The outer ones of the SDK say "dispatch failure", "io error".
    let most = texts.len().saturating_sub(2);
    match texts.split_off(most).join(": ") {
        text if text.is_empty() => error.to_string(),
        text => text,
    }
}
