//! Conditional writes to the table, spelled out.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::Timestamp;

use crate::{random::mark, schema::name};

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn moment(value: Timestamp) -> AttributeValue {
    number(value.as_micros())
}

/// A moment in seconds, as programs from before Haulage write and read them.
pub(crate) fn whole_seconds(value: Timestamp) -> AttributeValue {
    number(value.as_micros().div_euclid(1_000_000))
}

/// One update of a record, with the condition on which it is made.
///
/// Names are written `#name` and values `:name`; every name is an alias, since
/// many are reserved words of DynamoDB. Each write leaves its mark (`op`): it
/// is how a writer whose answer was lost knows its own work, and how one that
/// read a record makes sure that it is still the same.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) op: String,
    sets: Vec<String>,
    removes: Vec<&'static str>,
    condition: String,
    values: HashMap<String, AttributeValue>,
}

/// A [`Write`] in the form that the service takes.
pub(crate) struct Expressions {
    pub(crate) update: String,
    pub(crate) condition: String,
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: HashMap<String, AttributeValue>,
}

impl Write {
    pub(crate) fn at(now: Timestamp) -> Self {
        let op = mark();
        let write = Self {
            op: op.clone(),
            sets: Vec::new(),
            removes: Vec::new(),
            condition: String::new(),
            values: HashMap::new(),
        };
        write.set(name::OP, text(op)).set(name::UPDATED_AT, whole_seconds(now))
    }

    #[must_use]
    pub(crate) fn set(mut self, name: &'static str, value: AttributeValue) -> Self {
        self.sets.push(format!("#{name} = :{name}"));
        self.values.insert(format!(":{name}"), value);
        self
    }

    /// Sets what is not there yet.
    #[must_use]
    pub(crate) fn keep(mut self, name: &'static str, value: AttributeValue) -> Self {
        self.sets.push(format!("#{name} = if_not_exists(#{name}, :{name})"));
        self.values.insert(format!(":{name}"), value);
        self
    }

    /// Adds to a number, which begins at `from`.
    #[must_use]
    pub(crate) fn add(mut self, name: &'static str, from: i64, by: i64) -> Self {
        self.sets.push(format!("#{name} = if_not_exists(#{name}, :{name}_from) + :{name}_by"));
        self.values.insert(format!(":{name}_from"), number(from));
        self.values.insert(format!(":{name}_by"), number(by));
        self
    }

    #[must_use]
    pub(crate) fn remove(mut self, names: &[&'static str]) -> Self {
        self.removes.extend(names);
        self
    }

    /// One more condition.
    #[must_use]
    pub(crate) fn when(mut self, condition: &str) -> Self {
        if !self.condition.is_empty() {
            self.condition += " AND ";
        }
        self.condition += condition;
        self
    }

    /// The value of a `:name` in a condition.
    #[must_use]
    pub(crate) fn bind(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(format!(":{name}"), value);
        self
    }

    pub(crate) fn expressions(self) -> Expressions {
        let mut update = format!("SET {}", self.sets.join(", "));
        if !self.removes.is_empty() {
            let names: Vec<_> = self.removes.iter().map(|name| format!("#{name}")).collect();
            update += " REMOVE ";
            update += &names.join(", ");
        }
        let mut names = aliases(&update);
        names.extend(aliases(&self.condition));
        Expressions { update, condition: self.condition, names, values: self.values }
    }
}

/// Every `#name` in an expression, with what it stands for.
pub(crate) fn aliases(expression: &str) -> HashMap<String, String> {
    let starts = expression.match_indices('#').map(|(at, _)| &expression[at..]);
    starts
        .map(|rest| {
            let end = rest[1..]
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .map_or(rest.len(), |n| n + 1);
            (rest[..end].to_owned(), rest[1..end].to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_out_a_write() {
        let write = Write::at(Timestamp::from_micros(7))
            .set("status", text("submitted"))
            .keep("queue", text("q"))
            .add("attempt", 0, 1)
            .remove(&["worker", "progress"])
            .when("#left > :zero")
            .when("(#a = :a OR #b_c = :a)")
            .bind("zero", number(0));
        let op = write.op.clone();
        let e = write.expressions();
        assert_eq!(
            e.update,
            "SET #op = :op, #updated_at = :updated_at, #status = :status, \
             #queue = if_not_exists(#queue, :queue), \
             #attempt = if_not_exists(#attempt, :attempt_from) + :attempt_by REMOVE #worker, #progress"
        );
        assert_eq!(e.condition, "#left > :zero AND (#a = :a OR #b_c = :a)");
        assert_eq!(e.names["#b_c"], "b_c");
        assert_eq!(e.names["#progress"], "progress");
        assert_eq!(e.names.len(), 10);
        assert_eq!(e.values[":op"], text(op));
    }
}
