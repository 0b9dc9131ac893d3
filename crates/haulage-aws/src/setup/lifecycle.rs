//! Which lifecycle rules of a bucket concern the objects of Haulage, and what
//! they do to them.

use std::fmt;

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule};

use crate::schema::object_retention::{KEEP_DAYS, prefix};

/// The error of S3 where a bucket has no rules at all.
pub(crate) const NONE: &str = "NoSuchLifecycleConfiguration";

/// A rule that lets objects expire.
struct Expiry<'a> {
    prefix: &'a str,
    /// `None` where it is a date.
    days: Option<u32>,
    /// Whether it may leave some of the objects alone, by their size.
    partly: bool,
}

impl<'a> Expiry<'a> {
    /// `None` if the rule lets nothing expire that could be ours: it is off, it
    /// only does other things, or it asks for tags, which our objects do not have.
    fn of(rule: &'a LifecycleRule) -> Option<Self> {
        let expiration = rule.expiration()?;
        let days = expiration.days().and_then(|days| u32::try_from(days).ok());
        if *rule.status() != ExpirationStatus::Enabled || (days.is_none() && expiration.date().is_none()) {
            return None;
        }
        // Old rules have their prefix outside of the filter.
        #[allow(deprecated)]
        let plain = rule.prefix();
        let filter = rule.filter();
        let and = filter.and_then(|filter| filter.and());
        if filter.is_some_and(|filter| filter.tag().is_some())
            || and.is_some_and(|and| !and.tags().is_empty())
        {
            return None;
        }
        let sized = [
            filter.and_then(|filter| filter.object_size_greater_than()),
            filter.and_then(|filter| filter.object_size_less_than()),
            and.and_then(|and| and.object_size_greater_than()),
            and.and_then(|and| and.object_size_less_than()),
        ];
        let prefix = filter.and_then(|filter| filter.prefix()).or(and.and_then(|and| and.prefix())).or(plain);
        Some(Self { prefix: prefix.unwrap_or_default(), days, partly: sized.iter().any(Option::is_some) })
    }

    /// Whether all objects that are kept for so many days are under the prefix.
    fn covers(&self, days: u32) -> bool {
        prefix(days).starts_with(self.prefix)
    }

    /// Whether some are.
    fn touches(&self, days: u32) -> bool {
        self.covers(days) || self.prefix.starts_with(&prefix(days))
    }
}

fn expiries(rules: &[LifecycleRule]) -> impl Iterator<Item = Expiry<'_>> {
    rules.iter().filter_map(Expiry::of)
}

/// The times, in days, for which no rule lets our objects expire.
pub(crate) fn missing(rules: &[LifecycleRule]) -> Vec<u32> {
    let expire = |days: u32| {
        expiries(rules).any(|expiry| expiry.covers(days) && !expiry.partly && expiry.days.is_some())
    };
    KEEP_DAYS.into_iter().filter(|days| !expire(*days)).collect()
}

/// A rule that deletes objects which a job may still need.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Early {
    prefix: String,
    days: Option<u32>,
    /// The least time, in days, for which objects under the prefix are needed.
    needed: u32,
}

impl fmt::Display for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, days, needed } = self;
        match days {
            Some(days) => write!(f, "objects under `{prefix}` expire after {days} days")?,
            None => write!(f, "objects under `{prefix}` expire on a date")?,
        }
        write!(f, ", and those of Haulage under haulage/{needed}d/ are needed for {needed}")
    }
}

/// The rules that delete what is still needed.
pub(crate) fn early(rules: &[LifecycleRule]) -> Vec<Early> {
    let of = |expiry: Expiry<'_>| {
        let too_soon = |needed: &u32| expiry.days.is_none_or(|days| days < *needed);
        let needed = KEEP_DAYS.into_iter().find(|needed| expiry.touches(*needed) && too_soon(needed))?;
        Some(Early { prefix: expiry.prefix.to_owned(), days: expiry.days, needed })
    };
    expiries(rules).filter_map(of).collect()
}

/// The rules that concern our objects, in words.
pub(super) fn of_haulage(rules: &[LifecycleRule]) -> Vec<String> {
    let ours = expiries(rules).filter(|expiry| KEEP_DAYS.into_iter().any(|days| expiry.touches(days)));
    ours.map(|expiry| match expiry.days {
        Some(days) => format!("`{}` expires after {days} days", expiry.prefix),
        None => format!("`{}` expires on a date", expiry.prefix),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use aws_sdk_s3::types::{LifecycleExpiration, LifecycleRuleAndOperator, LifecycleRuleFilter, Tag};

    use super::*;

    fn rule(filter: LifecycleRuleFilter, days: i32, status: ExpirationStatus) -> LifecycleRule {
        let expiration = LifecycleExpiration::builder().days(days).build();
        LifecycleRule::builder().status(status).filter(filter).expiration(expiration).build().expect("a rule")
    }

    fn under(prefix: &str, days: i32) -> LifecycleRule {
        let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
        rule(filter, days, ExpirationStatus::Enabled)
    }

    #[test]
    fn a_rule_for_all_does_for_each() {
        let each: Vec<_> = KEEP_DAYS
            .into_iter()
            .map(|days| under(&prefix(days), i32::try_from(days).expect("days")))
            .collect();
        assert_eq!((missing(&each), early(&each)), (vec![], vec![]));
        assert_eq!((missing(&[]), early(&[])), (KEEP_DAYS.to_vec(), vec![]));
        for rule in [under("", 1000), under("haulage/", 800)] {
            assert_eq!((missing(from_ref(&rule)), early(from_ref(&rule))), (vec![], vec![]));
        }
        assert_eq!(missing(&each[1..]), [KEEP_DAYS[0]]);
    }

    #[test]
    fn what_expires_too_soon_is_found() {
        let [early] = &early(&[under("other/", 1), under("haulage/", 60), under("", 900)])[..] else {
            panic!("one rule")
        };
        assert_eq!(
            early.to_string(),
            "objects under `haulage/` expire after 60 days, and those of Haulage under haulage/90d/ are \
             needed for 90"
        );
        let of_one_queue = [under("haulage/45d/jobs.fifo/", 1)];
        assert_eq!((missing(&of_one_queue), super::early(&of_one_queue).len()), (KEEP_DAYS.to_vec(), 1));
    }

    #[test]
    fn rules_that_do_not_apply_do_not_count() {
        let filter = || LifecycleRuleFilter::builder();
        let tag = Tag::builder().key("a").value("b").build().expect("a tag");
        let tagged = LifecycleRuleAndOperator::builder().prefix("haulage/").tags(tag.clone()).build();
        let off = rule(filter().prefix("").build(), 1, ExpirationStatus::Disabled);
        let enabled = |filter| rule(filter, 1, ExpirationStatus::Enabled);
        for other in [
            off,
            enabled(filter().tag(tag).build()),
            enabled(filter().and(tagged).build()),
            under("haul/", 1),
        ] {
            assert_eq!((missing(from_ref(&other)), early(from_ref(&other))), (KEEP_DAYS.to_vec(), vec![]));
        }
        // Some of them, but not all.
        let large = filter().object_size_greater_than(1 << 20).build();
        let large = rule(large, 1, ExpirationStatus::Enabled);
        assert_eq!(missing(from_ref(&large)), KEEP_DAYS);
        assert_eq!(super::early(from_ref(&large)).len(), 1);
    }
}
