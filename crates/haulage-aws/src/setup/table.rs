//! The table.

use std::time::Duration;

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
use tokio::time::Instant;

use super::{Outcome, Step};
use crate::{
    config::Config,
    schema::{
        name::{self, DEAD_LETTERS, WEBHOOKS},
        webhook::{PROJECTED, WEBHOOK_OF},
    },
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
        if wrong_key(&found).is_none() {
            for note in add_indexes(dynamodb, table, &found).await? {
                step = step.note(note);
            }
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
    let mut attributes = vec![attribute(name::ID, ScalarAttributeType::S).map_err(|e| failed(&e))?];
    let mut indexes = Vec::new();
    for index in &INDEXES {
        attributes.extend(index.attributes().map_err(|e| failed(&e))?);
        let built = GlobalSecondaryIndex::builder()
            .index_name(index.name)
            .set_key_schema(Some(index.key().map_err(|e| failed(&e))?))
            .projection(index.projection());
        indexes.push(built.build().map_err(|e| failed(&e))?);
    }
    dynamodb
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes))
        .key_schema(key_part(name::ID, KeyType::Hash).map_err(|e| failed(&e))?)
        .set_global_secondary_indexes(Some(indexes))
        .send()
        .await
        .map_err(|e| fault(format_args!("create {what}"), e))?;
    let ready = dynamodb.wait_until_table_exists().table_name(table).wait(Duration::from_secs(120)).await;
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

/// An index of the table, with few items in it and nothing of all others.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) name: &'static str,
    /// The text and the number that it goes by.
    keys: [&'static str; 2],
    /// What it has besides these and the key of the table.
    projected: &'static [&'static str],
    /// What is found by it.
    pub(crate) finds: &'static str,
    /// What cannot be had without it.
    pub(crate) without: &'static str,
}

/// All of them.
pub(crate) static INDEXES: [Index; 2] = [
    // Records are read as they are now, so the index need not have more of them.
    Index {
        name: DEAD_LETTERS,
        keys: [name::DEAD_OF, name::SUBMITTED_AT],
        projected: &[],
        finds: "dead letters",
        without: "dead letters cannot be listed or redriven",
    },
    Index {
        name: WEBHOOKS,
        keys: [WEBHOOK_OF, name::DUE_AT],
        projected: &PROJECTED,
        finds: "webhooks",
        without: "webhooks are not told",
    },
];

impl Index {
    fn attributes(&self) -> Result<[AttributeDefinition; 2], BuildError> {
        let [by, order] = self.keys;
        Ok([attribute(by, ScalarAttributeType::S)?, attribute(order, ScalarAttributeType::N)?])
    }

    fn key(&self) -> Result<Vec<KeySchemaElement>, BuildError> {
        let [by, order] = self.keys;
        Ok(vec![key_part(by, KeyType::Hash)?, key_part(order, KeyType::Range)?])
    }

    fn projection(&self) -> Projection {
        if self.projected.is_empty() {
            return Projection::builder().projection_type(ProjectionType::KeysOnly).build();
        }
        let attributes = self.projected.iter().map(|name| (*name).to_owned()).collect();
        let projection = Projection::builder().projection_type(ProjectionType::Include);
        projection.set_non_key_attributes(Some(attributes)).build()
    }

    /// Whether the table has it, and it can be read.
    pub(crate) fn of(&self, table: &TableDescription) -> Option<bool> {
        let found = table.global_secondary_indexes().iter().find(|i| i.index_name() == Some(self.name))?;
        let keys: Vec<_> = found.key_schema().iter().map(KeySchemaElement::attribute_name).collect();
        (keys == self.keys)
            .then(|| matches!(found.index_status(), None | Some(IndexStatus::Active | IndexStatus::Updating)))
    }

    async fn add(&self, dynamodb: &Client, table: &str) -> Result<()> {
        let name = self.name;
        let failed = |e: BuildError| Error::unavailable(format!("cannot describe index {name}: {e}"), e);
        let index = CreateGlobalSecondaryIndexAction::builder()
            .index_name(name)
            .set_key_schema(Some(self.key().map_err(failed)?))
            .projection(self.projection())
            .build()
            .map_err(failed)?;
        dynamodb
            .update_table()
            .table_name(table)
            .set_attribute_definitions(Some(self.attributes().map_err(failed)?.into()))
            .global_secondary_index_updates(GlobalSecondaryIndexUpdate::builder().create(index).build())
            .send()
            .await
            .map(drop)
            .map_err(|e| fault(format_args!("add index {name} to table {table}"), e))
    }
}

/// For how long to wait for one index before the next is added: DynamoDB makes one at a time. (Developer Guide,
/// "Managing Global Secondary Indexes in DynamoDB")
const INDEX_PATIENCE: Duration = Duration::from_secs(60);

/// Adds the indexes that are missing to a table that is there already, and tells of each.
async fn add_indexes(dynamodb: &Client, table: &str, found: &TableDescription) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let patient_until = Instant::now() + INDEX_PATIENCE;
    for index in INDEXES.iter().filter(|index| index.of(found).is_none()) {
        let (name, finds) = (index.name, index.finds);
        let mut is_free = is_at_rest(found) && notes.is_empty();
        while !is_free && Instant::now() < patient_until {
            tokio::time::sleep(Duration::from_secs(1)).await;
            is_free = find(dynamodb, table).await?.is_some_and(|found| is_at_rest(&found));
        }
        if is_free {
            index.add(dynamodb, table).await?;
            notes.push(format!("the index {name} is being added, for {finds} to be found"));
        } else {
            notes.push(format!(
                "the index {name} has to be added as well, for {finds}: do this again once the table is ready, as \
                 DynamoDB makes one at a time"
            ));
        }
    }
    Ok(notes)
}

/// Whether nothing is being made of it.
fn is_at_rest(table: &TableDescription) -> bool {
    let at_rest = |status: Option<&IndexStatus>| matches!(status, None | Some(IndexStatus::Active));
    matches!(table.table_status(), None | Some(TableStatus::Active))
        && table.global_secondary_indexes().iter().all(|index| at_rest(index.index_status()))
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
    for index in &INDEXES {
        let Index { name, without, .. } = index;
        step = step.note(match index.of(&found) {
            Some(true) => format!("index {name}"),
            Some(false) => format!("index {name}, which is not ready yet"),
            None => format!("no index {name}; {without}"),
        });
    }
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
