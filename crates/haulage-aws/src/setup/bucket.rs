//! The bucket and its lifecycle rules.

use aws_sdk_s3::{
    Client,
    types::{
        AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
        CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
        PublicAccessBlockConfiguration,
    },
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use haulage::{Error, Result};

use super::{Outcome, Step};
use crate::{clients::Clients, fault::fault, ticket::KEEP_DAYS};

/// The beginning of the keys that are kept for so many days.
fn prefix(days: u32) -> String {
    format!("haulage/{days}d/")
}

pub(super) async fn create(clients: &Clients, name: &str) -> Result<Step> {
    let s3 = &clients.s3;
    let what = format!("bucket {name}");
    let exists = exists(s3, name).await?;
    if !exists {
        // The oldest region has no name of its own here.
        let place = (clients.region != "us-east-1").then(|| {
            let constraint = BucketLocationConstraint::from(clients.region.as_str());
            CreateBucketConfiguration::builder().location_constraint(constraint).build()
        });
        let call = s3.create_bucket().bucket(name).set_create_bucket_configuration(place).send();
        call.await.map_err(|e| fault(format_args!("create {what}"), e))?;
        let block = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true)
            .build();
        let call = s3.put_public_access_block().bucket(name).public_access_block_configuration(block).send();
        call.await.map_err(|e| fault(format_args!("close {what} to the public"), e))?;
    }
    let mut all = rules(s3, name).await?;
    let missing = missing_rules(&all);
    let mut step = Step::new(what, if exists { Outcome::Exists } else { Outcome::Created });
    if !missing.is_empty() {
        for days in &missing {
            all.push(rule(*days)?);
        }
        let rules = BucketLifecycleConfiguration::builder().set_rules(Some(all)).build();
        let rules = rules.map_err(|e| Error::unavailable(format!("cannot write lifecycle rules: {e}"), e))?;
        let call = s3.put_bucket_lifecycle_configuration().bucket(name).lifecycle_configuration(rules).send();
        call.await.map_err(|e| fault(format_args!("set the lifecycle of bucket {name}"), e))?;
        let days: Vec<_> = missing.iter().map(u32::to_string).collect();
        step = step.note(format!(
            "lifecycle rules added: objects under haulage/ expire after {} days",
            days.join(", ")
        ));
    }
    Ok(step)
}

async fn exists(s3: &Client, name: &str) -> Result<bool> {
    match s3.head_bucket().bucket(name).send().await {
        Ok(_) => Ok(true),
        Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == 404) => Ok(false),
        Err(error) => Err(fault(format_args!("find bucket {name}"), error)),
    }
}

/// The lifecycle rules of a bucket.
pub(crate) async fn rules(s3: &Client, name: &str) -> Result<Vec<LifecycleRule>> {
    match s3.get_bucket_lifecycle_configuration().bucket(name).send().await {
        Ok(output) => Ok(output.rules.unwrap_or_default()),
        Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Ok(Vec::new()),
        Err(error) => Err(fault(format_args!("read the lifecycle of bucket {name}"), error)),
    }
}

/// The times, in days, for which no rule lets our objects expire.
pub(crate) fn missing_rules(rules: &[LifecycleRule]) -> Vec<u32> {
    let covers = |days: u32, rule: &LifecycleRule| {
        let of = rule.filter().and_then(|filter| filter.prefix()).unwrap_or_default();
        let after = rule.expiration().and_then(LifecycleExpiration::days);
        *rule.status() == ExpirationStatus::Enabled && of == prefix(days) && after.is_some()
    };
    KEEP_DAYS.into_iter().filter(|days| !rules.iter().any(|rule| covers(*days, rule))).collect()
}

fn rule(days: u32) -> Result<LifecycleRule> {
    LifecycleRule::builder()
        .id(format!("haulage-{days}-days"))
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix(days)).build())
        .expiration(LifecycleExpiration::builder().days(i32::try_from(days).unwrap_or(i32::MAX)).build())
        .abort_incomplete_multipart_upload(
            AbortIncompleteMultipartUpload::builder().days_after_initiation(7).build(),
        )
        .build()
        .map_err(|e| Error::unavailable(format!("cannot write a lifecycle rule: {e}"), e))
}

pub(super) async fn describe(clients: &Clients, name: &str) -> Result<Step> {
    let what = format!("bucket {name}");
    if !exists(&clients.s3, name).await? {
        return Ok(Step::new(what, Outcome::Missing));
    }
    let missing = missing_rules(&rules(&clients.s3, name).await?);
    let note = if missing.is_empty() {
        "lifecycle rules are complete".to_owned()
    } else {
        format!("no lifecycle rule for {}", missing.iter().map(|d| prefix(*d)).collect::<Vec<_>>().join(", "))
    };
    Ok(Step::new(what, Outcome::Exists).note(note))
}
