//! The DynamoDB table: reads and conditional writes of items.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::UpdateItemError,
    types::{
        AttributeValue, BatchStatementRequest, KeysAndAttributes, ReturnValue,
        ReturnValuesOnConditionCheckFailure,
    },
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures_util::{StreamExt, TryStreamExt, stream};
use haulage::{Error, Result};

use crate::{
    config::TableArn,
    schema::{
        item::Row,
        name,
        update::{Expressions, Item, Write, aliases, text},
    },
    services::{
        fault::{fault, is_denied, is_missing, may_pass},
        meter::Meter,
    },
};

/// How many calls of one verb are under way at once.
pub(crate) const PARALLEL: usize = 16;
/// Amazon DynamoDB API Reference, BatchGetItem.
const MAX_GET: usize = 100;
/// Amazon DynamoDB API Reference, BatchExecuteStatement.
const MAX_STATEMENTS: usize = 25;
/// How many bytes of items or messages go into one call, unless it is for one alone: each try has
/// ten seconds, also on a line of half a megabit a second. SQS would take 1 MiB (Developer
/// Guide, "Amazon SQS message quotas").
pub(crate) const MAX_CALL_BYTES: usize = 512 << 10;
/// How often what a batch left undone is tried again.
pub(crate) const MAX_ROUNDS: u32 = 8;
/// How many items are put at once in place of a batch.
const PUTS: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct Table {
    client: Client,
    name: String,
    pub(crate) meter: Meter,
}

/// What became of a conditional write.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is done; the item as it is now.
    Done(Row),
    /// Its condition did not hold; the item as it is, if there is one.
    Refused(Option<Row>),
}

/// Whether an item was inserted, rather than there already.
pub(crate) type Inserted = Result<bool, NotWritten>;

/// Why an item could not be inserted.
#[derive(Clone, Debug)]
pub(crate) struct NotWritten {
    pub(crate) error: Error,
    /// Trying on does not help: there is no table, or a policy is in the way.
    pub(crate) for_good: bool,
}

/// Waits before another round of what a batch left undone.
pub(crate) async fn pause(round: u32) {
    let most = 50_u64 << round.min(6);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(most / 2..=most))).await;
}

impl Table {
    pub(crate) fn new(client: Client, name: String, meter: Meter) -> Self {
        Self { client, name, meter }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Makes a conditional write. One whose first answer was lost, so that a
    /// second try was refused, is known by its mark.
    pub(crate) async fn write(&self, key: &str, write: Write) -> Result<Written> {
        let op = write.op.clone();
        let Expressions { update, condition, names, values } = write.expressions();
        let call = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(name::ID, text(key))
            .update_expression(update)
            .set_condition_expression((!condition.is_empty()).then_some(condition))
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .set_return_consumed_capacity(self.meter.ask())
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let mut round = 0;
        let answer = loop {
            match call.clone().send().await {
                Err(error) if is_conflict(error.code()) && round < MAX_ROUNDS => {
                    pause(round).await;
                    round += 1;
                }
                answer => break answer,
            }
        };
        match answer {
            Ok(output) => {
                self.meter.wrote(&output.consumed_capacity);
                let item = output.attributes.ok_or_else(|| self.odd("the item of an update"))?;
                Ok(Written::Done(Row(item)))
            }
            Err(SdkError::ServiceError(error)) if is_refused(error.err()) => {
                self.meter.refused(1.0);
                let UpdateItemError::ConditionalCheckFailedException(refused) = error.into_err() else {
                    return Ok(Written::Refused(None));
                };
                match refused.item.map(Row) {
                    Some(row) if row.op() == op => Ok(Written::Done(row)),
                    row => Ok(Written::Refused(row)),
                }
            }
            // Trying on would not help.
            Err(error) if error.code() == Some("ValidationException") && is_too_large(error.message()) => {
                Err(self.too_large())
            }
            Err(error) => Err(fault(format_args!("write to table {}", self.name), error)),
        }
    }

    /// Deletes an item on the condition of a write; tells whether that held.
    pub(crate) async fn delete_if(&self, key: &str, write: Write) -> Result<bool> {
        let (condition, values) = write.into_condition();
        let call = self.client.delete_item().table_name(&self.name).key(name::ID, text(key));
        let call = call
            .set_expression_attribute_names(Some(aliases(&condition)))
            .condition_expression(condition)
            .set_expression_attribute_values(Some(values))
            .set_return_consumed_capacity(self.meter.ask());
        let mut round = 0;
        loop {
            match call.clone().send().await {
                Ok(output) => {
                    self.meter.wrote(&output.consumed_capacity);
                    return Ok(true);
                }
                Err(error) if error.code() == Some("ConditionalCheckFailedException") => {
                    self.meter.refused(1.0);
                    return Ok(false);
                }
                Err(error) if is_conflict(error.code()) && round < MAX_ROUNDS => {
                    pause(round).await;
                    round += 1;
                }
                Err(error) => return Err(fault(format_args!("delete from table {}", self.name), error)),
            }
        }
    }

    pub(crate) fn too_large(&self) -> Error {
        Error::Invalid(format!(
            "the record would be larger than the 400 KB that an item of table {} takes; with an S3 bucket \
             (bucket=… in the URL), large bodies and results go there",
            self.name
        ))
    }

    pub(crate) fn odd(&self, what: &str) -> Error {
        Error::Unavailable {
            message: format!("table {}: {what} is missing in the answer", self.name),
            source: None,
        }
    }

    /// One item, as it is now.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Item>> {
        self.read_one(key, None, true).await
    }

    /// The same a moment ago, for half of what that costs.
    pub(crate) async fn hint(&self, key: &str) -> Result<Option<Item>> {
        self.read_one(key, None, false).await
    }

    /// The status of a record, and nothing else of it: who submits may see no more.
    pub(crate) async fn status(&self, key: &str) -> Result<Option<Item>> {
        // `status` is a reserved word ("Reserved words in DynamoDB").
        self.read_one(key, Some("#message_id, #status"), true).await
    }

    async fn read_one(&self, key: &str, names: Option<&str>, latest: bool) -> Result<Option<Item>> {
        let call =
            self.client.get_item().table_name(&self.name).key(name::ID, text(key)).consistent_read(latest);
        let call = call
            .set_projection_expression(names.map(str::to_owned))
            .set_expression_attribute_names(names.map(aliases));
        let call = call.set_return_consumed_capacity(self.meter.ask());
        let output =
            call.send().await.map_err(|e| fault(format_args!("read from table {}", self.name), e))?;
        self.meter.read(&output.consumed_capacity);
        Ok(output.item)
    }

    /// Items by their keys, as they are now. `names` limits what is fetched.
    pub(crate) async fn get_many(
        &self,
        keys: impl IntoIterator<Item = String>,
        names: Option<&str>,
    ) -> Result<HashMap<String, Item>> {
        self.read_many(keys, names, true).await
    }

    /// The same, as they are or were a moment ago, which costs half.
    pub(crate) async fn peek_many(
        &self,
        keys: impl IntoIterator<Item = String>,
    ) -> Result<HashMap<String, Item>> {
        self.read_many(keys, None, false).await
    }

    async fn read_many(
        &self,
        keys: impl IntoIterator<Item = String>,
        names: Option<&str>,
        consistent: bool,
    ) -> Result<HashMap<String, Item>> {
        // DynamoDB refuses empty and overlong keys, and the same key twice.
        let keys: HashSet<String> = keys.into_iter().filter(|key| (1..=2048).contains(&key.len())).collect();
        let keys: Vec<String> = keys.into_iter().collect();
        let chunks: Vec<Vec<String>> = keys.chunks(MAX_GET).map(<[String]>::to_vec).collect();
        let parts: Vec<HashMap<String, Item>> = stream::iter(chunks)
            .map(|chunk| self.get_chunk(chunk, names, consistent))
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn get_chunk(
        &self,
        keys: Vec<String>,
        names: Option<&str>,
        consistent: bool,
    ) -> Result<HashMap<String, Item>> {
        let mut found = HashMap::new();
        let keys = keys.into_iter().map(|key| HashMap::from([(name::ID.to_owned(), text(key))])).collect();
        let request = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(consistent)
            .set_projection_expression(names.map(str::to_owned))
            .set_expression_attribute_names(names.map(aliases))
            .build();
        let request = request.map_err(|e| Error::unavailable(format!("cannot ask for records: {e}"), e))?;
        let mut left = HashMap::from([(self.name.clone(), request)]);
        // Rounds that brought nothing; a large answer is cut, and takes several.
        let mut vain = 0;
        loop {
            let before = found.len();
            let call = self.client.batch_get_item().set_request_items(Some(std::mem::take(&mut left)));
            let call = call.set_return_consumed_capacity(self.meter.ask());
            let output =
                call.send().await.map_err(|e| fault(format_args!("read from table {}", self.name), e))?;
            self.meter.read(output.consumed_capacity.iter().flatten());
            for item in output.responses.into_iter().flatten().flat_map(|(_, items)| items) {
                if let Some(Ok(key)) = item.get(name::ID).map(|key| key.as_s().cloned()) {
                    found.insert(key, item);
                }
            }
            left = output.unprocessed_keys.unwrap_or_default();
            if left.is_empty() {
                break;
            }
            if found.len() == before {
                vain += 1;
                if vain > MAX_ROUNDS {
                    return Err(self.overloaded("read"));
                }
                pause(vain).await;
            }
        }
        Ok(found)
    }

    pub(crate) fn overloaded(&self, verb: &str) -> Error {
        let message = format!(
            "cannot {verb} all items of table {}: DynamoDB refuses some, again and again; \
             its throughput is used up, try again later",
            self.name
        );
        Error::Unavailable { message, source: None }
    }

    /// Puts items that are not there yet. An item that is there stays as it is,
    /// and is no error: the answers tell, in order, which are new.
    pub(crate) async fn insert(&self, items: Vec<Item>) -> Vec<Inserted> {
        let chunks = batches_of(items, MAX_STATEMENTS, MAX_CALL_BYTES, bytes);
        let parts: Vec<Vec<Inserted>> =
            stream::iter(chunks).map(|chunk| self.insert_chunk(chunk)).buffered(PARALLEL).collect().await;
        parts.into_iter().flatten().collect()
    }

    async fn insert_chunk(&self, items: Vec<Item>) -> Vec<Inserted> {
        if TableArn::parse(&self.name).is_some() {
            return stream::iter(items).map(|item| self.put(item)).buffered(PUTS).collect().await;
        }
        let overloaded = || Err(NotWritten { error: self.overloaded("write"), for_good: false });
        let mut answers: Vec<Option<Inserted>> = vec![None; items.len()];
        for round in 0.. {
            let open: Vec<usize> = (0..items.len()).filter(|n| answers[*n].is_none()).collect();
            if open.is_empty() {
                break;
            }
            if round > MAX_ROUNDS {
                open.iter().for_each(|n| answers[*n] = Some(overloaded()));
                break;
            }
            if round > 0 {
                pause(round - 1).await;
            }
            let statements = open.iter().map(|n| self.insert_statement(&items[*n])).collect();
            let call = self.client.batch_execute_statement().set_statements(Some(statements));
            match call.set_return_consumed_capacity(self.meter.ask()).send().await {
                Ok(output) => {
                    self.meter.wrote(output.consumed_capacity.iter().flatten());
                    let responses = output.responses.unwrap_or_default();
                    for (n, response) in open.iter().zip(responses) {
                        answers[*n] = match response.error {
                            None => Some(Ok(true)),
                            Some(error) => {
                                self.insert_error(error.code.map(|c| c.as_str().to_owned()), error.message)
                            }
                        };
                    }
                }
                Err(error) => {
                    let for_good = error.code().is_some_and(|code| is_missing(code) || is_denied(code));
                    let error = fault(format_args!("write to table {}", self.name), error);
                    let not_written = NotWritten { error, for_good };
                    open.iter().for_each(|n| answers[*n] = Some(Err(not_written.clone())));
                }
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(overloaded)).collect()
    }

    /// Puts an item that is not there yet: a table of another account takes no PartiQL
    /// (Developer Guide, "DynamoDB API operations supported by resource-based policies").
    async fn put(&self, item: Item) -> Inserted {
        let condition = format!("attribute_not_exists({})", name::ID);
        let call = self.client.put_item().table_name(&self.name).set_item(Some(item));
        let call = call.condition_expression(condition).set_return_consumed_capacity(self.meter.ask());
        match call.send().await {
            Ok(output) => {
                self.meter.wrote(&output.consumed_capacity);
                Ok(true)
            }
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => {
                let never = |code| is_missing(code) || is_denied(code) || code == "ValidationException";
                let for_good = error.code().is_some_and(never);
                let error = fault(format_args!("write to table {}", self.name), error);
                Err(NotWritten { error, for_good })
            }
        }
    }

    /// The answer to one statement that failed; `None` to try again.
    fn insert_error(&self, code: Option<String>, message: Option<String>) -> Option<Inserted> {
        let (code, message) = (code.unwrap_or_default(), message.unwrap_or_default());
        match code.as_str() {
            "DuplicateItem" | "ConditionalCheckFailed" => Some(Ok(false)),
            _ if may_pass(&code) => None,
            "ResourceNotFound" => {
                let error = Error::Config(format!(
                    "cannot write to table {}: it does not exist in this region and account; check the name and \
                     the region, or make it with `haulage queue create`",
                    self.name
                ));
                Some(Err(NotWritten { error, for_good: true }))
            }
            _ => {
                let message = format!("cannot write to table {}: {code}: {message}", self.name);
                let error = Error::Unavailable { message, source: None };
                Some(Err(NotWritten { error, for_good: is_denied(&code) || code == "ValidationError" }))
            }
        }
    }

    fn insert_statement(&self, item: &Item) -> BatchStatementRequest {
        let fields: Vec<String> = item.keys().map(|name| format!("'{name}': ?")).collect();
        let statement = format!("INSERT INTO \"{}\" VALUE {{{}}}", self.name, fields.join(", "));
        BatchStatementRequest::builder()
            .statement(statement)
            .set_parameters(Some(item.values().cloned().collect()))
            .build()
            .expect("the statement is set")
    }

    /// Deletes an item, whatever it is.
    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let call = self.client.delete_item().table_name(&self.name).key(name::ID, text(key)).send();
        call.await.map(drop).map_err(|e| fault(format_args!("delete from table {}", self.name), e))
    }
}

fn is_refused(error: &UpdateItemError) -> bool {
    error.code() == Some("ConditionalCheckFailedException")
}

/// Whether a transaction is under way that writes the same item.
fn is_conflict(code: Option<&str>) -> bool {
    code == Some("TransactionConflictException")
}

/// Whether an item was to be larger than it may be.
pub(crate) fn is_too_large(said: Option<&str>) -> bool {
    said.is_some_and(|said| said.contains("Item size"))
}

/// About how large an item is in a call, in bytes: what is large is text or bytes.
fn bytes(item: &Item) -> usize {
    let size = |value: &AttributeValue| match value {
        AttributeValue::S(text) => text.len(),
        // In Base64.
        AttributeValue::B(bytes) => bytes.as_ref().len() / 3 * 4,
        _ => 0,
    };
    item.values().map(size).sum()
}

/// Batches of so many at most, and of so many bytes where they are of more than one.
pub(crate) fn batches_of<T>(
    items: Vec<T>,
    most: usize,
    most_bytes: usize,
    bytes: impl Fn(&T) -> usize,
) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut filled = 0;
    for item in items {
        let size = bytes(&item);
        match batches.last_mut() {
            Some(batch) if batch.len() < most && filled + size <= most_bytes => {
                batch.push(item);
                filled += size;
            }
            _ => {
                batches.push(vec![item]);
                filled = size;
            }
        }
    }
    batches
}

pub(crate) fn chunks_of<T>(items: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| {
        let chunk: Vec<T> = items.by_ref().take(size).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_can_carry_a_batch_in_time() {
        let sizes = |sizes: &[usize]| -> Vec<Vec<usize>> { batches_of(sizes.to_vec(), 3, 100, |size| *size) };
        assert_eq!(sizes(&[1, 2, 3, 4]), [vec![1, 2, 3], vec![4]], "by number");
        assert_eq!(sizes(&[60, 40, 1, 99, 2]), [vec![60, 40], vec![1, 99], vec![2]], "by bytes");
        assert_eq!(sizes(&[500, 500]), [vec![500], vec![500]], "what is larger goes alone");
        assert!(sizes(&[]).is_empty());
        let item: Item = [("body".to_owned(), text("x".repeat(350_000)))].into();
        let batches = batches_of(vec![item; 25], MAX_STATEMENTS, MAX_CALL_BYTES, bytes);
        assert!(batches.iter().all(|batch| batch.len() == 1), "nine megabytes are not one call");
    }
}
