//! A record and what belongs to it, written in one step: all of it or nothing.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        CancellationReason, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};
use aws_smithy_types::error::operation::BuildError;
use haulage::{Error, Result};

use crate::{
    random,
    schema::{
        item::Row,
        name,
        update::{Expressions, Item, Write, aliases, text},
    },
    services::{
        fault::{fault, may_pass},
        table::{MAX_ROUNDS, Table, is_too_large, pause},
    },
};

/// How many items one transaction writes (Amazon DynamoDB API Reference, TransactWriteItems).
pub(crate) const MAX_ITEMS: usize = 100;

/// What is written beside a record.
#[derive(Clone, Debug)]
pub(crate) enum Beside {
    /// An item, whatever is there.
    Put(Item),
    /// An item, in place of the one with this mark; where none is named, there has to be none.
    Replace(Item, Option<String>),
    /// Nothing in place of the item with this key.
    Delete(String),
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Together {
    Done,
    /// The condition of the record did not hold; the record as it is, if there is one.
    Refused(Option<Row>),
    /// What was to be replaced is another one.
    OthersChanged,
}

impl Table {
    /// Makes a write with what belongs to it. As with [`Table::write`], one whose first answer was
    /// lost is known by its mark.
    pub(crate) async fn write_with(&self, key: &str, write: Write, beside: Vec<Beside>) -> Result<Together> {
        let op = write.op.clone();
        // Each is paid for twice, and by its size.
        let refused = 2.0 * (1 + beside.len()) as f64;
        let mut items = vec![self.update(key, write).map_err(unclear)?];
        for beside in beside {
            items.push(self.beside(beside).map_err(unclear)?);
        }
        for round in 0..=MAX_ROUNDS {
            if round > 0 {
                pause(round - 1).await;
            }
            let call = self
                .client()
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                // The SDK would draw it from a generator that a fork or a snapshot copies.
                .client_request_token(random::token())
                .set_return_consumed_capacity(self.meter.ask());
            let error = match call.send().await {
                Ok(output) => {
                    self.meter.wrote(output.consumed_capacity.iter().flatten());
                    return Ok(Together::Done);
                }
                Err(error) => error,
            };
            let reasons = match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                    canceled.cancellation_reasons()
                }
                // An earlier try of the same call.
                Some(TransactWriteItemsError::TransactionInProgressException(_)) => continue,
                _ => return Err(fault(format_args!("write to table {}", self.name()), error)),
            };
            if let Some(record) = reasons.first().filter(|reason| is_refused(reason)) {
                self.meter.refused(refused);
                return Ok(match record.item.clone().map(Row) {
                    Some(row) if row.op() == op => Together::Done,
                    row => Together::Refused(row),
                });
            }
            if reasons.iter().any(is_refused) {
                self.meter.refused(refused);
                return Ok(Together::OthersChanged);
            }
            if reasons.iter().any(|reason| is_too_large(reason.message())) {
                return Err(self.too_large());
            }
            if !reasons.iter().any(|reason| may_pass(reason.code().unwrap_or_default())) {
                return Err(fault(format_args!("write to table {}", self.name()), error));
            }
        }
        Err(self.overloaded("write"))
    }

    fn update(&self, key: &str, write: Write) -> std::result::Result<TransactWriteItem, BuildError> {
        let Expressions { update, condition, names, values } = write.expressions();
        let update = Update::builder()
            .table_name(self.name())
            .key(name::ID, text(key))
            .update_expression(update)
            .set_condition_expression((!condition.is_empty()).then_some(condition))
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn beside(&self, beside: Beside) -> std::result::Result<TransactWriteItem, BuildError> {
        let item = TransactWriteItem::builder();
        let put = |put: Item| Put::builder().table_name(self.name()).set_item(Some(put));
        let put_if = |new: Item, condition: &str| {
            put(new).condition_expression(condition).set_expression_attribute_names(Some(aliases(condition)))
        };
        Ok(match beside {
            Beside::Put(new) => item.put(put(new).build()?),
            Beside::Replace(new, None) => item.put(put_if(new, "attribute_not_exists(#message_id)").build()?),
            Beside::Replace(new, Some(op)) => {
                let put = put_if(new, "#op = :seen").expression_attribute_values(":seen", text(op));
                item.put(put.build()?)
            }
            Beside::Delete(key) => {
                let delete = Delete::builder().table_name(self.name()).key(name::ID, text(key));
                item.delete(delete.build()?)
            }
        }
        .build())
    }
}

fn is_refused(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

fn unclear(error: BuildError) -> Error {
    Error::unavailable(format!("cannot describe a write to the table: {error}"), error)
}
