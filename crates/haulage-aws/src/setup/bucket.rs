//! The bucket and its lifecycle rules.

use aws_sdk_s3::{
    Client,
    error::SdkError,
    operation::head_bucket::{HeadBucketError, HeadBucketOutput},
    types::{
        AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
        CreateBucketConfiguration, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
        PublicAccessBlockConfiguration,
    },
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use haulage::{Error, Result};

use super::{Outcome, Step, lifecycle};
use crate::{
    schema::object_retention::prefix,
    services::{clients::Clients, fault::fault},
};

/// Where a bucket is.
pub(crate) enum Found {
    /// In the region of the queue.
    Here,
    /// In another, and out of reach from here.
    Elsewhere(String),
    /// Nowhere.
    Missing,
}

/// Where the bucket is, if the answer to a `HeadBucket` says so.
pub(crate) fn place(
    answer: &Result<HeadBucketOutput, SdkError<HeadBucketError, HttpResponse>>,
) -> Option<Found> {
    let error = match answer {
        Ok(_) => return Some(Found::Here),
        Err(error) => error,
    };
    // The answer to a HEAD has no body, and so no code.
    let response = error.raw_response()?;
    match response.status().as_u16() {
        404 => Some(Found::Missing),
        301 => {
            let region = response.headers().get("x-amz-bucket-region").unwrap_or("another region");
            Some(Found::Elsewhere(region.to_owned()))
        }
        _ => None,
    }
}

/// A bucket by its name, and the account that it has to be in, where that is known.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) owner: Option<&'a str>,
}

impl Named<'_> {
    /// As a call has it: S3 refuses to touch one of another account.
    fn owner(self) -> Option<String> {
        self.owner.map(str::to_owned)
    }
}

async fn find(s3: &Client, bucket: Named<'_>) -> Result<Found> {
    let name = bucket.name;
    let answer = s3.head_bucket().bucket(name).set_expected_bucket_owner(bucket.owner()).send().await;
    match (place(&answer), answer) {
        (None, Err(error)) => Err(fault(format_args!("find bucket {name}"), error)),
        (found, _) => Ok(found.unwrap_or(Found::Here)),
    }
}

pub(super) async fn create(clients: &Clients, bucket: Named<'_>) -> Result<Step> {
    let (s3, name) = (&clients.s3, bucket.name);
    let what = format!("bucket {name}");
    let outcome = match find(s3, bucket).await? {
        Found::Elsewhere(region) => return Ok(elsewhere(clients, what, &region)),
        Found::Here => Outcome::Exists,
        Found::Missing => {
            make(clients, bucket).await?;
            Outcome::Created
        }
    };
    let mut all = rules(s3, bucket).await?;
    let mut step = Step::new(what, outcome);
    for note in early(&all) {
        step = step.note(note);
    }
    let missing = lifecycle::missing(&all);
    if !missing.is_empty() {
        for days in &missing {
            let rule = rule(*days, &all)?;
            all.push(rule);
        }
        let rules = BucketLifecycleConfiguration::builder().set_rules(Some(all)).build();
        let rules = rules.map_err(|e| Error::unavailable(format!("cannot write lifecycle rules: {e}"), e))?;
        let call = s3.put_bucket_lifecycle_configuration().bucket(name).lifecycle_configuration(rules);
        let call = call.set_expected_bucket_owner(bucket.owner()).send();
        call.await.map_err(|e| fault(format_args!("set the lifecycle of bucket {name}"), e))?;
        let prefixes: Vec<_> = missing.iter().map(|days| prefix(*days)).collect();
        step = step.note(format!("lifecycle rules added: objects expire under {}", prefixes.join(", ")));
    }
    Ok(step)
}

/// Makes a bucket that nobody but its account sees.
async fn make(clients: &Clients, bucket: Named<'_>) -> Result<()> {
    let name = bucket.name;
    // The oldest region has no name of its own here.
    let place = (clients.region != "us-east-1").then(|| {
        let constraint = BucketLocationConstraint::from(clients.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(constraint).build()
    });
    let call = clients.s3.create_bucket().bucket(name).set_create_bucket_configuration(place).send();
    call.await.map_err(|e| fault(format_args!("create bucket {name}"), e))?;
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .block_public_policy(true)
        .ignore_public_acls(true)
        .restrict_public_buckets(true)
        .build();
    let call = clients.s3.put_public_access_block().bucket(name).public_access_block_configuration(block);
    let call = call.set_expected_bucket_owner(bucket.owner()).send();
    call.await.map(drop).map_err(|e| fault(format_args!("close bucket {name} to the public"), e))
}

fn elsewhere(clients: &Clients, what: String, region: &str) -> Step {
    Step::new(what, Outcome::Exists)
        .note(format!("it is in {region}, and has to be in {}, as the queue is", clients.region))
}

/// The lifecycle rules of a bucket.
async fn rules(s3: &Client, bucket: Named<'_>) -> Result<Vec<LifecycleRule>> {
    let name = bucket.name;
    let call = s3.get_bucket_lifecycle_configuration().bucket(name);
    match call.set_expected_bucket_owner(bucket.owner()).send().await {
        Ok(output) => Ok(output.rules.unwrap_or_default()),
        Err(error) if error.code() == Some(lifecycle::NONE) => Ok(Vec::new()),
        Err(error) => Err(fault(format_args!("read the lifecycle of bucket {name}"), error)),
    }
}

/// The rule for objects that are kept for so many days, beside those there are.
fn rule(days: u32, beside: &[LifecycleRule]) -> Result<LifecycleRule> {
    // A rule of this name that is switched off, or was changed, is not ours to
    // touch; two of one name are refused. S3 gives names to rules without.
    let id =
        Some(format!("haulage-{days}-days")).filter(|id| beside.iter().all(|rule| rule.id() != Some(id)));
    LifecycleRule::builder()
        .set_id(id)
        .status(aws_sdk_s3::types::ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix(days)).build())
        .expiration(LifecycleExpiration::builder().days(i32::try_from(days).unwrap_or(i32::MAX)).build())
        .abort_incomplete_multipart_upload(
            AbortIncompleteMultipartUpload::builder().days_after_initiation(7).build(),
        )
        .build()
        .map_err(|e| Error::unavailable(format!("cannot write a lifecycle rule: {e}"), e))
}

/// What is to be said of rules that delete what is still needed.
fn early(rules: &[LifecycleRule]) -> impl Iterator<Item = String> {
    lifecycle::early(rules)
        .into_iter()
        .map(|early| format!("{early}; Haulage never changes rules: do that yourself"))
}

pub(super) async fn describe(clients: &Clients, bucket: Named<'_>) -> Result<Step> {
    let what = format!("bucket {}", bucket.name);
    match find(&clients.s3, bucket).await? {
        Found::Here => {}
        Found::Elsewhere(region) => return Ok(elsewhere(clients, what, &region)),
        Found::Missing => return Ok(Step::new(what, Outcome::Missing)),
    }
    let rules = rules(&clients.s3, bucket).await?;
    let mut step = Step::new(what, Outcome::Exists);
    for rule in lifecycle::of_haulage(&rules) {
        step = step.note(format!("lifecycle: {rule}"));
    }
    let missing: Vec<_> = lifecycle::missing(&rules).into_iter().map(prefix).collect();
    if !missing.is_empty() {
        step = step.note(format!("no lifecycle rule for {}", missing.join(", ")));
    }
    for note in early(&rules) {
        step = step.note(note);
    }
    Ok(step)
}

/// Deletes the bucket if there is nothing in it. S3 itself refuses otherwise.
pub(super) async fn delete(clients: &Clients, bucket: Named<'_>) -> Result<Step> {
    let what = format!("bucket {}", bucket.name);
    let call = clients.s3.delete_bucket().bucket(bucket.name);
    match call.set_expected_bucket_owner(bucket.owner()).send().await {
        Ok(_) => Ok(Step::new(what, Outcome::Deleted)),
        Err(error) => match error.code() {
            Some("NoSuchBucket") => Ok(Step::new(what, Outcome::Missing)),
            Some("BucketNotEmpty") => Ok(Step::new(what, Outcome::Kept)
                .note("it is not empty; objects of Haulage expire by its lifecycle rules")),
            _ => Err(fault(format_args!("delete {what}"), error)),
        },
    }
}
