//! The table and the bucket: are they set up as they should be?

use aws_sdk_dynamodb::types::{BillingMode, TableDescription};
use haulage::backend::{Finding, Severity};

use super::{
    permissions,
    verdict::{Refusal, Who, judge, not_read},
};
use crate::{
    schema::{name, object_retention::prefix},
    services::bucket::Bucket,
    setup::{self, Found, Index, NO_LIFECYCLE, TTL},
    state::Inner,
};

pub(super) async fn table(inner: &Inner) -> Vec<Finding> {
    let (dynamodb, table) = (inner.store.table.client(), inner.store.table.name());
    let on = format!("table {table}");
    let call = dynamodb.describe_table().table_name(table).send();
    let mut findings = match judge(call.await, &[]) {
        Err(Refusal::Missing) => {
            return vec![Finding::bad(
                Severity::Problem,
                "table",
                format!("there is no table {table} in this region and account"),
                "name another with table=… in the URL, or make it with `haulage queue create`",
            )];
        }
        Err(refusal) => {
            let finding = not_read(&refusal, "table", "dynamodb:DescribeTable", &on);
            if refusal.is_general() {
                return vec![finding];
            }
            vec![finding]
        }
        Ok(output) => {
            output.and_then(|output| output.table).map_or_else(Vec::new, |found| described(table, &found))
        }
    };
    let call = dynamodb.describe_time_to_live().table_name(table).send();
    findings.push(match judge(call.await, &[]) {
        Err(refusal) => not_read(&refusal, "table TTL", "dynamodb:DescribeTimeToLive", &on),
        Ok(output) => {
            let description = output.and_then(|output| output.time_to_live_description);
            ttl(setup::ttl_attribute(description).as_deref())
        }
    });
    findings
}

fn described(table: &str, found: &TableDescription) -> Vec<Finding> {
    if let Some(key) = setup::wrong_key(found) {
        return vec![Finding::bad(
            Severity::Problem,
            "table",
            format!("the key of table {table} is {key}"),
            format!("use a table whose only key is the string {}", name::ID),
        )];
    }
    if !setup::is_usable(found) {
        let status = found.table_status().map_or("unknown", |status| status.as_str());
        return vec![Finding::bad(
            Severity::Problem,
            "table",
            format!("table {table} is {status}, and takes nothing until it is ACTIVE"),
            "wait for it, or name another with table=… in the URL",
        )];
    }
    let on_demand = found.billing_mode_summary().and_then(|billing| billing.billing_mode());
    let throughput = match (on_demand, found.provisioned_throughput()) {
        (Some(BillingMode::PayPerRequest), _) => "paid on demand".to_owned(),
        (_, Some(units)) => format!(
            "with {} read and {} write units, or as many as it scales to",
            units.read_capacity_units().unwrap_or(0),
            units.write_capacity_units().unwrap_or(0)
        ),
        (_, None) => "with provisioned units".to_owned(),
    };
    let table_is = format!("{table}, with the key {}, {throughput}", name::ID);
    let indexes = setup::INDEXES.iter().map(|of| index(table, found, of));
    std::iter::once(Finding::ok("table", table_is)).chain(indexes).collect()
}

/// Jobs run without it; who looks after them does not.
fn index(table: &str, found: &TableDescription, index: &Index) -> Finding {
    let (name, check) = (index.name, format!("index of {}", index.finds));
    match index.of(found) {
        Some(true) => Finding::ok(check, name),
        Some(false) => Finding::bad(
            Severity::Warning,
            check,
            format!("index {name} of table {table} is not ready yet"),
            "wait for it",
        ),
        None => Finding::bad(
            Severity::Warning,
            check,
            format!("table {table} has no index {name}: {}", index.without),
            "run `haulage queue create`, which adds it, or apply the Terraform module",
        ),
    }
}

fn ttl(attribute: Option<&str>) -> Finding {
    if attribute == Some(TTL) {
        return Finding::ok("table TTL", format!("on, by {TTL}"));
    }
    let is = attribute.map_or("off".to_owned(), |attribute| format!("on by {attribute}"));
    Finding::bad(
        Severity::Warning,
        "table TTL",
        format!("it is {is}; expired records stay in the table and are paid for"),
        format!("turn the TTL on, with the attribute {TTL}"),
    )
}

/// Its place, its rules, and what may be done to its objects.
pub(super) async fn bucket(inner: &Inner) -> Vec<Finding> {
    let Some(bucket) = &inner.store.bucket else { return Vec::new() };
    let name = bucket.name();
    let region = &inner.clients.region;
    let answer =
        bucket.client().head_bucket().bucket(name).set_expected_bucket_owner(bucket.owner()).send().await;
    let found = match setup::bucket_place(&answer) {
        Some(Found::Elsewhere(other)) => {
            return vec![Finding::bad(
                Severity::Problem,
                "bucket",
                format!("bucket {name} is in {other}, and the queue in {region}: it cannot be used"),
                "name a bucket of the queue's region with bucket=… in the URL",
            )];
        }
        Some(Found::Missing) => {
            return vec![Finding::bad(
                Severity::Problem,
                "bucket",
                format!("there is no bucket {name}"),
                "name another with bucket=… in the URL, or make it with `haulage queue create`",
            )];
        }
        Some(Found::Here) => Ok(None),
        None => judge(answer, &[]),
    };
    let mut findings = vec![match found {
        Ok(_) => Finding::ok("bucket", format!("{name}, in {region}")),
        Err(Refusal::Denied) => Finding::bad(
            Severity::Warning,
            "bucket",
            format!(
                "not checked: s3:ListBucket is denied on bucket {name}; without it an object that is missing \
                 looks like one that is forbidden"
            ),
            format!("allow s3:ListBucket on bucket {name}"),
        ),
        Err(refusal) => {
            let finding = refusal.finding("bucket", "s3:ListBucket", &format!("bucket {name}"), Who::Both);
            if refusal.is_general() {
                return vec![finding];
            }
            finding
        }
    }];
    findings.extend(lifecycle(bucket).await);
    findings.extend(permissions::bucket(inner).await);
    findings
}

async fn lifecycle(bucket: &Bucket) -> Vec<Finding> {
    let (check, name) = ("bucket lifecycle", bucket.name());
    let call = bucket.client().get_bucket_lifecycle_configuration().bucket(name);
    let call = call.set_expected_bucket_owner(bucket.owner());
    let rules = match judge(call.send().await, &[NO_LIFECYCLE]) {
        Ok(output) => output.and_then(|output| output.rules).unwrap_or_default(),
        Err(refusal) => {
            return vec![not_read(
                &refusal,
                check,
                "s3:GetLifecycleConfiguration",
                &format!("bucket {name}"),
            )];
        }
    };
    let mut findings: Vec<Finding> = setup::early(&rules)
        .into_iter()
        .map(|early| {
            Finding::bad(
                Severity::Problem,
                check,
                format!("{early}: bodies and results go before their jobs do"),
                "let the rule leave out haulage/, or expire later",
            )
        })
        .collect();
    let missing: Vec<_> = setup::missing_rules(&rules).into_iter().map(prefix).collect();
    if !missing.is_empty() {
        findings.push(Finding::bad(
            Severity::Warning,
            check,
            format!("no rule lets objects under {} expire; they stay and are paid for", missing.join(", ")),
            "run `haulage queue create` with the bucket, or add rules with these prefixes and times",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, "objects expire when no job needs them any more"));
    }
    findings
}
