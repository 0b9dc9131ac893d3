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
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) op: String,
    /// When it is made.
    pub(crate) at: Timestamp,
    /// At most one of each attribute.
    changes: Vec<(&'static str, Change)>,
    condition: String,
    /// What the condition compares with.
    values: HashMap<String, AttributeValue>,
}

/// What becomes of one attribute.
#[derive(Clone, Debug)]
enum Change {
    Set(AttributeValue),
    /// Set, if it is not there yet.
    Keep(AttributeValue),
    /// Added to a number, which begins at `from`.
    Add {
        from: i64,
        by: i64,
    },
    /// One more in a set of texts.
    Join(String),
    Remove,
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
            at: now,
            changes: Vec::new(),
            condition: String::new(),
            values: HashMap::new(),
        };
        write.set(name::OP, text(op)).set(name::UPDATED_AT, whole_seconds(now))
    }

    fn change(mut self, name: &'static str, change: Change) -> Self {
        self.changes.push((name, change));
        self
    }

    #[must_use]
    pub(crate) fn set(self, name: &'static str, value: AttributeValue) -> Self {
        self.change(name, Change::Set(value))
    }

    /// Sets what is not there yet.
    #[must_use]
    pub(crate) fn keep(self, name: &'static str, value: AttributeValue) -> Self {
        self.change(name, Change::Keep(value))
    }

    /// Adds to a number, which begins at `from`.
    #[must_use]
    pub(crate) fn add(self, name: &'static str, from: i64, by: i64) -> Self {
        self.change(name, Change::Add { from, by })
    }

    /// Puts a text into a set, which is made with the first.
    #[must_use]
    pub(crate) fn join(self, name: &'static str, value: impl Into<String>) -> Self {
        self.change(name, Change::Join(value.into()))
    }

    #[must_use]
    pub(crate) fn remove(self, names: &[&'static str]) -> Self {
        names.iter().fold(self, |write, name| write.change(name, Change::Remove))
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

    /// Whether a condition compares with this.
    pub(crate) fn binds(&self, name: &str) -> bool {
        self.values.contains_key(&format!(":{name}"))
    }

    /// Whether it gives the attribute a value of its own.
    pub(crate) fn sets(&self, name: &str) -> bool {
        self.changes
            .iter()
            .any(|(of, change)| *of == name && matches!(change, Change::Set(_) | Change::Keep(_)))
    }

    /// What it makes of an item.
    pub(crate) fn applied_to(&self, item: &Item) -> Item {
        let mut after = item.clone();
        for (name, change) in &self.changes {
            let before = item.get(*name);
            let value = match change {
                Change::Set(value) => Some(value.clone()),
                Change::Keep(value) => Some(before.unwrap_or(value).clone()),
                Change::Add { from, by } => {
                    let is = before.and_then(|is| is.as_n().ok()?.parse().ok()).unwrap_or(*from);
                    Some(number(is + by))
                }
                Change::Join(value) => {
                    let mut all = before.and_then(|set| set.as_ss().ok()).cloned().unwrap_or_default();
                    if !all.contains(value) {
                        all.push(value.clone());
                    }
                    Some(AttributeValue::Ss(all))
                }
                Change::Remove => None,
            };
            match value {
                Some(value) => after.insert((*name).to_owned(), value),
                None => after.remove(*name),
            };
        }
        after
    }

    /// Its condition alone, and what that compares with.
    pub(crate) fn into_condition(self) -> (String, HashMap<String, AttributeValue>) {
        (self.condition, self.values)
    }

    pub(crate) fn expressions(self) -> Expressions {
        let (mut sets, mut joins, mut removes, mut values) =
            (Vec::new(), Vec::new(), Vec::new(), self.values);
        for (name, change) in self.changes {
            match change {
                Change::Set(value) => {
                    sets.push(format!("#{name} = :{name}"));
                    values.insert(format!(":{name}"), value);
                }
                Change::Keep(value) => {
                    sets.push(format!("#{name} = if_not_exists(#{name}, :{name})"));
                    values.insert(format!(":{name}"), value);
                }
                Change::Add { from, by } => {
                    sets.push(format!("#{name} = if_not_exists(#{name}, :{name}_from) + :{name}_by"));
                    values.insert(format!(":{name}_from"), number(from));
                    values.insert(format!(":{name}_by"), number(by));
                }
                Change::Join(value) => {
                    joins.push(format!("#{name} :{name}"));
                    values.insert(format!(":{name}"), AttributeValue::Ss(vec![value]));
                }
                Change::Remove => removes.push(format!("#{name}")),
            }
        }
        let clauses = [("SET", sets), ("REMOVE", removes), ("ADD", joins)];
        let clauses = clauses.iter().filter(|(_, all)| !all.is_empty());
        let clauses: Vec<String> = clauses.map(|(verb, all)| format!("{verb} {}", all.join(", "))).collect();
        let update = clauses.join(" ");
        let mut names = aliases(&update);
        names.extend(aliases(&self.condition));
        Expressions { update, condition: self.condition, names, values }
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
            .join("deliveries", "msg_1")
            .when("#left > :zero")
            .when("(#a = :a OR #b_c = :a)")
            .bind("zero", number(0));
        let op = write.op.clone();
        let e = write.expressions();
        assert_eq!(
            e.update,
            "SET #op = :op, #updated_at = :updated_at, #status = :status, \
             #queue = if_not_exists(#queue, :queue), \
             #attempt = if_not_exists(#attempt, :attempt_from) + :attempt_by REMOVE #worker, #progress \
             ADD #deliveries :deliveries"
        );
        assert_eq!(e.condition, "#left > :zero AND (#a = :a OR #b_c = :a)");
        assert_eq!(e.names["#b_c"], "b_c");
        assert_eq!(e.names["#progress"], "progress");
        assert_eq!(e.names.len(), 11);
        assert_eq!(e.values[":op"], text(op));
        assert_eq!(e.values[":deliveries"], AttributeValue::Ss(vec!["msg_1".into()]));
    }

    #[test]
    fn knows_what_it_makes_of_an_item() {
        let write = Write::at(Timestamp::from_micros(7_000_000))
            .set("status", text("submitted"))
            .keep("queue", text("q"))
            .add("attempt", 0, 1)
            .remove(&["worker"])
            .join("deliveries", "msg_1");
        assert!(
            write.sets("status") && write.sets("queue") && !write.sets("worker") && !write.sets("attempt")
        );
        let made: Item = [
            ("op", text(&write.op)),
            ("updated_at", number(7)),
            ("status", text("submitted")),
            ("queue", text("q")),
            ("attempt", number(1)),
            ("deliveries", AttributeValue::Ss(vec!["msg_1".into()])),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        assert_eq!(write.applied_to(&Item::new()), made);
        let mut before = made.clone();
        before.insert("queue".into(), text("other"));
        before.insert("worker".into(), text("w"));
        before.insert("deliveries".into(), AttributeValue::Ss(vec!["msg_0".into()]));
        let mut after = made;
        after.insert("queue".into(), text("other"));
        after.insert("attempt".into(), number(2));
        after.insert("deliveries".into(), AttributeValue::Ss(vec!["msg_0".into(), "msg_1".into()]));
        assert_eq!(write.applied_to(&before), after);
    }
}
