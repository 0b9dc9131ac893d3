//! The table.

use aws_sdk_dynamodb::{
    Client,
    client::Waiters,
    error::BuildError,
    types::{
        AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
        GlobalSecondaryIndexUpdate, IndexStatus, KeySchemaElement, KeyType, Projection, ProjectionType,
        ScalarAttributeType, TableDescription, TableStatus, TimeToLiveDescription, TimeToLiveSpecification,
        TimeToLiveStatus,
    },
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use haulage::{Error, Result};

use super::{Outcome, Step};
use crate::{
    config::Config,
    schema::name::{self, DEAD_LETTERS},
    services::{
        clients::Clients,
        fault::{fault, is_missing},
    },
};

/// The attribute by which DynamoDB deletes items.
pub(crate) const TTL: &str = name::EXPIRATION;

pub(super) async fn create(clients: &Clients, config: &Config) -> Result<Step> {
    let (dynamodb, table) = (&clients.dynamodb, &config.table);
    let what = format!("table {table}");
    if let Some(found) = find(dynamodb, table).await? {
        let mut step = Step::new(what, Outcome::Exists);
        if index(&found).is_none() && wrong_key(&found).is_none() {
            add_index(dynamodb, table).await?;
            step =
                step.note(format!("the index {DEAD_LETTERS} is being added, for dead letters to be found"));
        }
        for note in differences(&found, ttl(dynamodb, table).await?.as_deref()) {
            step = step.note(note);
        }
        return Ok(step);
    }
    if config.table_arn().is_some() {
        return Err(Error::Config(format!(
            "{what} does not exist, or cannot be seen from here; make it in its own account"
        )));
    }
    let failed = |e: &dyn std::fmt::Display| Error::Unavailable {
        message: format!("cannot create {what}: {e}"),
        source: None,
    };
    let index = GlobalSecondaryIndex::builder()
        .index_name(DEAD_LETTERS)
        .set_key_schema(Some(index_key().map_err(|e| failed(&e))?))
        .projection(keys_only());
    let mut attributes = index_attributes().map_err(|e| failed(&e))?;
    attributes.push(attribute(name::ID, ScalarAttributeType::S).map_err(|e| failed(&e))?);
    dynamodb
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes))
        .key_schema(key_part(name::ID, KeyType::Hash).map_err(|e| failed(&e))?)
        .global_secondary_indexes(index.build().map_err(|e| failed(&e))?)
        .send()
        .await
        .map_err(|e| fault(format_args!("create {what}"), e))?;
    let ready =
        dynamodb.wait_until_table_exists().table_name(table).wait(std::time::Duration::from_secs(120)).await;
    ready.map_err(|e| failed(&e))?;
    let ttl = TimeToLiveSpecification::builder().attribute_name(TTL).enabled(true).build();
    let call = dynamodb.update_time_to_live().table_name(table);
    call.time_to_live_specification(ttl.map_err(|e| failed(&e))?)
        .send()
        .await
        .map_err(|e| fault(format_args!("turn on the TTL of {what}"), e))?;
    Ok(Step::new(what, Outcome::Created))
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, BuildError> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
}

fn key_part(name: &str, kind: KeyType) -> Result<KeySchemaElement, BuildError> {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build()
}

fn index_attributes() -> Result<Vec<AttributeDefinition>, BuildError> {
    Ok(vec![
        attribute(name::DEAD_OF, ScalarAttributeType::S)?,
        attribute(name::SUBMITTED_AT, ScalarAttributeType::N)?,
    ])
}

fn index_key() -> Result<Vec<KeySchemaElement>, BuildError> {
    Ok(vec![key_part(name::DEAD_OF, KeyType::Hash)?, key_part(name::SUBMITTED_AT, KeyType::Range)?])
}

/// Records are read as they are now, so the index need not have more of them.
fn keys_only() -> Projection {
    Projection::builder().projection_type(ProjectionType::KeysOnly).build()
}

/// Adds the index of dead letters to a table that is there already.
async fn add_index(dynamodb: &Client, table: &str) -> Result<()> {
    let failed = |e: BuildError| Error::unavailable(format!("cannot describe index {DEAD_LETTERS}: {e}"), e);
    let index = CreateGlobalSecondaryIndexAction::builder()
        .index_name(DEAD_LETTERS)
        .set_key_schema(Some(index_key().map_err(failed)?))
        .projection(keys_only())
        .build()
        .map_err(failed)?;
    dynamodb
        .update_table()
        .table_name(table)
        .set_attribute_definitions(Some(index_attributes().map_err(failed)?))
        .global_secondary_index_updates(GlobalSecondaryIndexUpdate::builder().create(index).build())
        .send()
        .await
        .map(drop)
        .map_err(|e| fault(format_args!("add index {DEAD_LETTERS} to table {table}"), e))
}

/// Whether the index of dead letters is there, and can be read.
pub(crate) fn index(table: &TableDescription) -> Option<bool> {
    let found = table.global_secondary_indexes().iter().find(|i| i.index_name() == Some(DEAD_LETTERS))?;
    let keys: Vec<_> = found.key_schema().iter().map(KeySchemaElement::attribute_name).collect();
    (keys == [name::DEAD_OF, name::SUBMITTED_AT])
        .then(|| matches!(found.index_status(), None | Some(IndexStatus::Active | IndexStatus::Updating)))
}

async fn find(dynamodb: &Client, table: &str) -> Result<Option<TableDescription>> {
    match dynamodb.describe_table().table_name(table).send().await {
        Ok(found) => Ok(found.table),
        Err(error) if error.code().is_some_and(is_missing) => Ok(None),
        Err(error) => Err(fault(format_args!("describe table {table}"), error)),
    }
}

async fn ttl(dynamodb: &Client, table: &str) -> Result<Option<String>> {
    let call = dynamodb.describe_time_to_live().table_name(table).send();
    let output = call.await.map_err(|e| fault(format_args!("read the TTL of table {table}"), e))?;
    Ok(ttl_attribute(output.time_to_live_description))
}

/// The attribute whose TTL is on.
pub(crate) fn ttl_attribute(description: Option<TimeToLiveDescription>) -> Option<String> {
    let on = description.filter(|ttl| {
        matches!(ttl.time_to_live_status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling))
    });
    on.and_then(|ttl| ttl.attribute_name)
}

/// Whether items can be read and written.
pub(crate) fn is_usable(table: &TableDescription) -> bool {
    matches!(table.table_status(), Some(TableStatus::Active | TableStatus::Updating))
}

/// The key, in words, if it is not the one that is needed.
pub(crate) fn wrong_key(table: &TableDescription) -> Option<String> {
    let key = key(table);
    (key != format!("{} (S, HASH)", name::ID)).then_some(key)
}

/// The key: names, types, and which is the partition key (HASH).
fn key(table: &TableDescription) -> String {
    let kind = |name: &str| {
        let of = table.attribute_definitions().iter().find(|a| a.attribute_name() == name);
        of.map_or("?", |a| a.attribute_type().as_str())
    };
    let part = |key: &KeySchemaElement| {
        format!("{} ({}, {})", key.attribute_name(), kind(key.attribute_name()), key.key_type().as_str())
    };
    table.key_schema().iter().map(part).collect::<Vec<_>>().join(", ")
}

fn differences(table: &TableDescription, ttl: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(keys) = wrong_key(table) {
        notes.push(format!("its key is {keys}, and has to be the string {} alone", name::ID));
    }
    if ttl != Some(TTL) {
        notes.push(format!("its TTL is not on for the attribute {TTL}; expired records stay in it"));
    }
    notes
}

pub(super) async fn describe(clients: &Clients, config: &Config) -> Result<Step> {
    let (dynamodb, table) = (&clients.dynamodb, &config.table);
    let what = format!("table {table}");
    let Some(found) = find(dynamodb, table).await? else { return Ok(Step::new(what, Outcome::Missing)) };
    let ttl = ttl(dynamodb, table).await?;
    let billing = found.billing_mode_summary().and_then(|b| b.billing_mode());
    let mut step = Step::new(what, Outcome::Exists)
        .note(format!("key {}", key(&found)))
        .note(format!("status {}", found.table_status().map_or("unknown", |status| status.as_str())))
        .note(format!(
            "about {} items, {} bytes",
            found.item_count().unwrap_or(0),
            found.table_size_bytes().unwrap_or(0)
        ))
        .note(format!("billing {}", billing.map_or("PROVISIONED", |billing| billing.as_str())))
        .note(format!("TTL attribute {}", ttl.as_deref().unwrap_or("none")));
    step = step.note(match index(&found) {
        Some(true) => format!("index {DEAD_LETTERS}"),
        Some(false) => format!("index {DEAD_LETTERS}, which is not ready yet"),
        None => format!("no index {DEAD_LETTERS}; dead letters cannot be listed or redriven"),
    });
    for note in differences(&found, ttl.as_deref()) {
        step = step.note(note);
    }
    Ok(step)
}

pub(super) async fn delete(clients: &Clients, config: &Config) -> Result<Step> {
    let (dynamodb, table) = (&clients.dynamodb, &config.table);
    let what = format!("table {table}");
    if config.table_arn().is_some() {
        let step = Step::new(what, Outcome::Kept);
        return Ok(step.note("it is named by its ARN, and is deleted in its own account"));
    }
    match dynamodb.delete_table().table_name(table).send().await {
        Ok(_) => Ok(Step::new(what, Outcome::Deleted)),
        Err(error) if error.code().is_some_and(is_missing) => Ok(Step::new(what, Outcome::Missing)),
        Err(error) => Err(fault(format_args!("delete {what}"), error)),
    }
}
