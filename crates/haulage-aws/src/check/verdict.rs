//! What the answer to a call says about a permission.
//!
//! AWS looks at permissions before it does anything, so a call that was made,
//! or whose condition did not hold, was allowed. Calls that are refused for
//! what they contain show less: AWS does not say whether it looks at that
//! first. Such a permission is "not denied". Anything else, from throttling to
//! a table that is not there, shows nothing, and is "not checked".

use aws_sdk_sqs::error::SdkError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use haulage::backend::{Finding, Severity};

use crate::services::fault::{fault, is_denied, is_missing};

/// Who needs a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Consumers,
    Both,
    Operators,
    /// Consumers, and who cancels, of jobs with webhooks.
    Webhooks,
    /// Only who runs this check.
    Doctor,
}

impl Who {
    fn need_it(self) -> &'static str {
        match self {
            Self::Consumers => "consumers need it",
            Self::Both => "producers and consumers need it",
            Self::Operators => "operators need it (list, stats, purge, redrive), and jobs run without it",
            Self::Webhooks => "jobs with webhooks do not end without it",
            Self::Doctor => "only this check needs it",
        }
    }

    /// How bad it is for them not to have it. Roles that only submit and work
    /// should not have what operators need.
    fn severity(self) -> Severity {
        match self {
            Self::Consumers | Self::Both => Severity::Problem,
            Self::Operators | Self::Webhooks | Self::Doctor => Severity::Warning,
        }
    }
}

/// Why an answer does not show that a call is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A policy is in the way.
    Denied,
    /// The policy of the key that encrypts the queue is.
    DeniedByKey,
    /// What it is about is not there.
    Missing,
    /// AWS does not know who asks.
    Credentials(String),
    /// There is no answer.
    Unreachable(String),
    /// The answer says nothing about permissions.
    Unclear(String),
}

/// The refusals after which a call counts as permitted, by their codes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passed {
    /// None: the call has to be made.
    Never,
    /// A condition that did not hold: it was looked at, so the call was allowed.
    ByCondition(&'static [&'static str]),
    /// What the call contains: it was not denied before that.
    ByContent(&'static [&'static str]),
}

impl Passed {
    fn codes(self) -> &'static [&'static str] {
        match self {
            Self::Never => &[],
            Self::ByCondition(codes) | Self::ByContent(codes) => codes,
        }
    }
}

/// Errors of all three services about the credentials themselves.
const CREDENTIALS: [&str; 13] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// What the call brought; `None` where it was refused with one of the codes in
/// `passed`.
pub(super) fn judge<T, E>(
    answer: Result<T, SdkError<E, HttpResponse>>,
    passed: &[&str],
) -> Result<Option<T>, Refusal>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let error = match answer {
        Ok(output) => return Ok(Some(output)),
        Err(error) => error,
    };
    let code = error.code().unwrap_or_default().to_owned();
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    // Of SQS; the older protocol has longer names.
    let short = code.rsplit('.').next().unwrap_or_default();
    Err(match &error {
        SdkError::ServiceError(_) if passed.contains(&short) => return Ok(None),
        SdkError::ServiceError(_) if code.starts_with("KMS.") || code.starts_with("Kms") => {
            if is_denied(&code) { Refusal::DeniedByKey } else { unclear(error) }
        }
        SdkError::ServiceError(_) if is_denied(&code) => Refusal::Denied,
        // The answer to a HEAD has no code.
        SdkError::ServiceError(_) if code.is_empty() && status == 403 => Refusal::Denied,
        SdkError::ServiceError(_) if is_missing(&code) => Refusal::Missing,
        SdkError::ServiceError(_) if CREDENTIALS.contains(&short) => Refusal::Credentials(code),
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => unclear(error),
        _ => Refusal::Unreachable(said(error)),
    })
}

fn unclear<E>(error: SdkError<E, HttpResponse>) -> Refusal
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    Refusal::Unclear(said(error))
}

fn said<E>(error: SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fault("make the call", error).to_string()
}

impl Refusal {
    /// Whether other calls to the same thing would bring the same.
    pub(super) fn is_general(&self) -> bool {
        matches!(self, Self::Missing | Self::Credentials(_) | Self::Unreachable(_))
    }

    /// What is said of it, under the name `check`.
    pub(super) fn finding(&self, check: impl Into<String>, action: &str, on: &str, who: Who) -> Finding {
        match self {
            Self::Denied => Finding::bad(
                who.severity(),
                check,
                format!("{action} is denied on {on}; {}", who.need_it()),
                format!("allow {action} on {on}"),
            ),
            Self::DeniedByKey => Finding::bad(
                who.severity(),
                check,
                format!("{action} is denied by the KMS key of {on}; {}", who.need_it()),
                "allow kms:GenerateDataKey and kms:Decrypt on this key, in its policy and in the role's",
            ),
            Self::Missing => Finding::bad(
                Severity::Warning,
                check,
                format!("not checked: {on} does not exist in this region and account"),
                "check the name and the region, or make it with `haulage queue create`",
            ),
            Self::Credentials(code) => Finding::bad(
                Severity::Problem,
                check,
                format!("AWS does not accept the credentials ({code})"),
                "renew them: AWS_ACCESS_KEY_ID and the like, the profile, or the role",
            ),
            Self::Unreachable(said) => {
                // The error itself ends with what to do.
                let elsewhere = (said.as_str(), "check the network, the region and AWS_ENDPOINT_URL");
                let (message, remedy) = said.rsplit_once("; ").unwrap_or(elsewhere);
                Finding::bad(Severity::Problem, check, message, remedy)
            }
            Self::Unclear(said) => Finding::bad(
                Severity::Warning,
                check,
                format!("not checked: {said}"),
                "run `haulage doctor` again; if this stays, the answer says what is wrong",
            ),
        }
    }
}

/// Findings about the permissions on one thing, in the order of the probes.
pub(super) struct Probes {
    on: String,
    findings: Vec<Finding>,
    over: bool,
}

impl Probes {
    pub(super) fn of(on: impl Into<String>) -> Self {
        Self { on: on.into(), findings: Vec::new(), over: false }
    }

    /// Makes a call and notes what it shows; unless an earlier one has shown
    /// that all will go alike.
    pub(super) async fn add<T, E>(
        &mut self,
        action: &str,
        who: Who,
        passed: Passed,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let verdict = async {
            let made = judge(call.await, passed.codes())?.map(drop);
            Ok(if matches!(passed, Passed::ByCondition(_)) { Some(()) } else { made })
        };
        self.judged(action, who, verdict).await;
    }

    /// The same, where the answer needs another look: `Some` where it shows that
    /// the call is allowed, `None` where it only does not deny it.
    pub(super) async fn judged(
        &mut self,
        action: &str,
        who: Who,
        verdict: impl Future<Output = Result<Option<()>, Refusal>>,
    ) {
        if self.over {
            return;
        }
        let (check, on) = (format!("may {action}"), &self.on);
        self.findings.push(match verdict.await {
            Ok(Some(())) => Finding::ok(check, format!("on {on}")),
            Ok(None) => Finding::ok(check, format!("not denied on {on}")),
            Err(refusal) => {
                self.over = refusal.is_general();
                refusal.finding(check, action, on, who)
            }
        });
    }

    pub(super) fn findings(self) -> Vec<Finding> {
        self.findings
    }
}

/// A read that only this check makes.
pub(super) fn not_read(refusal: &Refusal, check: &str, action: &str, on: &str) -> Finding {
    let mut finding = refusal.finding(check, action, on, Who::Doctor);
    if matches!(refusal, Refusal::Denied) {
        finding.message = format!("not checked: {}", finding.message);
    }
    finding
}
