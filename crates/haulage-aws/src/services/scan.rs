//! What reads more than the items that it can name: the whole table, or its indexes
//! of dead letters and of what is to be told to webhooks.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use haulage::{Error, Result, Timestamp};

use crate::{
    schema::{
        item::Row,
        name::{self, DEAD_LETTERS, WEBHOOKS},
        update::{Item, aliases, moment, text},
        webhook::Entry,
    },
    services::{fault::fault, table::Table},
};

/// How many parts of the table are read side by side: a few, so that the jobs
/// keep most of what the table can do.
const SEGMENTS: i32 = 4;

/// What `stats` and `purge` need of a record.
pub(crate) const OUTLINE: &str = "#message_id, #status, #queue, #due_at, #dead_of, #attempt, #attempts_left, #uncounted, #max_attempts, \
                       #cancel_requested, #worker, #lease_us, #op, #expires_at, #submitted_at, #finished_at, #result_ttl_us, \
                       #body_at, #result_at, #checkpoint_at, #spec, #redriven_by, #begun, #started_at, #deliveries, #told_at";

/// The records of a store, and of it alone once [`Inner::is_ours`] has been asked.
pub(crate) const OF_STORE: &str =
    "(#queue = :store OR begins_with(#queue, :named)) AND attribute_exists(#status)";

/// In which order dead letters come.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// From this submit on, that of the oldest unless one is named.
    OldestFirst(Option<Timestamp>),
    /// From this submit back.
    NewestFirst(Option<Timestamp>),
}

impl Table {
    /// Every record for which `filter` holds, in no order, as it was a moment ago:
    /// that costs half of what it takes to know them as they are now. `read` hears
    /// of how many items each page was.
    pub(crate) fn scan(
        &self,
        filter: &str,
        values: HashMap<String, AttributeValue>,
        names: &str,
        read: impl Fn(u64) + Send + Sync + 'static,
    ) -> impl Stream<Item = Result<Row>> + Send + 'static {
        self.scan_pages(filter, values, names, read)
            .map_ok(|rows| stream::iter(rows.into_iter().map(Ok)))
            .try_flatten()
    }

    /// The same page by page, of a megabyte each before the filter.
    pub(crate) fn scan_pages(
        &self,
        filter: &str,
        values: HashMap<String, AttributeValue>,
        names: &str,
        read: impl Fn(u64) + Send + Sync + 'static,
    ) -> impl Stream<Item = Result<Vec<Row>>> + Send + 'static {
        let mut all = aliases(filter);
        all.extend(aliases(names));
        let scan = self
            .client()
            .scan()
            .table_name(self.name())
            .total_segments(SEGMENTS)
            .filter_expression(filter)
            .projection_expression(names)
            .set_expression_attribute_names(Some(all))
            .set_expression_attribute_values(Some(values));
        let (table, read) = (self.name().to_owned(), Arc::new(read));
        let segments = (0..SEGMENTS).map(|segment| {
            let (scan, table, read) = (scan.clone().segment(segment), table.clone(), read.clone());
            pages(move |from| {
                let (call, table, read) =
                    (scan.clone().set_exclusive_start_key(from), table.clone(), read.clone());
                async move {
                    let output =
                        call.send().await.map_err(|e| fault(format_args!("scan table {table}"), e))?;
                    read(u64::try_from(output.scanned_count).unwrap_or(0));
                    let rows = output.items.unwrap_or_default().into_iter().filter_map(Row::of);
                    Ok((rows.collect(), output.last_evaluated_key))
                }
            })
            .boxed()
        });
        stream::select_all(segments)
    }

    /// The dead letters of a queue, as their records are now, from the index. `page`
    /// is how many are read at once.
    pub(crate) fn dead_letters(
        &self,
        queue: &str,
        order: &Order,
        page: usize,
    ) -> impl Stream<Item = Result<Row>> + Send + use<> {
        let (forward, from, condition) = match order {
            Order::OldestFirst(from) => (true, *from, "#dead_of = :queue AND #submitted_at >= :from"),
            Order::NewestFirst(from) => (false, *from, "#dead_of = :queue AND #submitted_at <= :from"),
        };
        let condition = if from.is_some() { condition } else { "#dead_of = :queue" };
        let mut values = HashMap::from([(":queue".to_owned(), text(queue))]);
        values.extend(from.map(|from| (":from".to_owned(), moment(from))));
        let query = self
            .client()
            .query()
            .table_name(self.name())
            .index_name(DEAD_LETTERS)
            .key_condition_expression(condition)
            .set_expression_attribute_names(Some(aliases(condition)))
            .set_expression_attribute_values(Some(values))
            .scan_index_forward(forward)
            .limit(i32::try_from(page.clamp(1, 1000)).unwrap_or(1000));
        let table = self.clone();
        pages(move |from| {
            let (call, table) = (query.clone().set_exclusive_start_key(from), table.clone());
            async move {
                let output = call.send().await.map_err(|error| match error.code() {
                    // DynamoDB says of an index that is not there that the query is wrong.
                    Some("ValidationException") => {
                        no_index(table.name(), DEAD_LETTERS, "dead letters", error.message())
                    }
                    _ => fault(format_args!("read the dead letters of table {}", table.name()), error),
                })?;
                // The index is a little behind, and has no more than the keys.
                let found = output.items.unwrap_or_default();
                let keys = found.iter().filter_map(|item| item.get(name::ID)?.as_s().ok().cloned());
                let rows = table.get_many(keys, None).await?;
                let mut rows: Vec<Row> =
                    rows.into_values().filter_map(Row::of).filter(Row::is_dead).collect();
                rows.sort_by_key(Row::place);
                if !forward {
                    rows.reverse();
                }
                Ok((rows, output.last_evaluated_key))
            }
        })
        .map_ok(|rows| stream::iter(rows.into_iter().map(Ok)))
        .try_flatten()
    }

    /// Deliveries under a name of the index of these, the first that are due first, and none after `until`: so many
    /// at most, and from where on there may be more.
    pub(crate) async fn deliveries(
        &self,
        of: &str,
        until: Option<Timestamp>,
        limit: usize,
        from: Option<Item>,
    ) -> Result<(Vec<Entry>, Option<Item>)> {
        let condition = match until {
            Some(_) => "#webhook_of = :of AND #due_at <= :until",
            None => "#webhook_of = :of",
        };
        let mut values = HashMap::from([(":of".to_owned(), text(of))]);
        values.extend(until.map(|until| (":until".to_owned(), moment(until))));
        let call = self
            .client()
            .query()
            .table_name(self.name())
            .index_name(WEBHOOKS)
            .key_condition_expression(condition)
            .set_expression_attribute_names(Some(aliases(condition)))
            .set_expression_attribute_values(Some(values))
            .set_limit(i32::try_from(limit).ok())
            .set_exclusive_start_key(from)
            .set_return_consumed_capacity(self.meter.ask());
        let output = call.send().await.map_err(|error| match error.code() {
            Some("ValidationException") => {
                no_index(self.name(), WEBHOOKS, "what is to be told to webhooks", error.message())
            }
            _ => fault(format_args!("read the deliveries of table {}", self.name()), error),
        })?;
        self.meter.read(&output.consumed_capacity);
        let entries = output.items.unwrap_or_default().into_iter().filter_map(Entry::of).collect();
        Ok((entries, output.last_evaluated_key))
    }
}

fn no_index(table: &str, index: &str, what: &str, said: Option<&str>) -> Error {
    Error::Config(format!(
        "table {table} has no index {index} to find {what} by ({}); \
         `haulage queue create` adds it, and so does the Terraform module",
        said.unwrap_or("ValidationException")
    ))
}

/// Pages, one after the other, until one has no key for the next.
fn pages<T, F>(page: impl Fn(Option<Item>) -> F + Send + 'static) -> impl Stream<Item = Result<T>> + Send
where
    T: Send,
    F: Future<Output = Result<(T, Option<Item>)>> + Send,
{
    enum Next {
        From(Option<Item>),
        End,
    }
    stream::try_unfold((page, Next::From(None)), |(page, next)| async move {
        let Next::From(from) = next else { return Ok(None) };
        let (found, last) = page(from).await?;
        let next = if last.is_some() { Next::From(last) } else { Next::End };
        Ok(Some((found, (page, next))))
    })
}
