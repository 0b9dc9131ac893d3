//! Counts what is paid for: requests by operation, and capacity units.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
        },
        orchestrator::Metadata,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use serde::Serialize;

/// What a backend has asked of AWS so far. Retries count, as they are paid for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// Requests to SQS, by operation.
    pub sqs: BTreeMap<String, u64>,
    /// The same as SQS charges for them: one for each 64 KB of what was sent or received
    /// (Amazon SQS pricing). Counted by whole calls, which are a little larger than that.
    pub sqs_charged: u64,
    /// Requests to DynamoDB, by operation.
    pub dynamodb: BTreeMap<String, u64>,
    /// Requests to S3, by operation.
    pub s3: BTreeMap<String, u64>,
    /// Write capacity units, as DynamoDB reports them.
    pub write_units: f64,
    /// Read capacity units, as DynamoDB reports them.
    pub read_units: f64,
}

impl Usage {
    /// What has been added since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let minus = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            let left = |name: &String, count: &u64| count - then.get(name).copied().unwrap_or(0);
            now.iter()
                .map(|(name, count)| (name.clone(), left(name, count)))
                .filter(|(_, count)| *count > 0)
                .collect()
        };
        Self {
            sqs: minus(&self.sqs, &earlier.sqs),
            sqs_charged: self.sqs_charged - earlier.sqs_charged,
            dynamodb: minus(&self.dynamodb, &earlier.dynamodb),
            s3: minus(&self.s3, &earlier.s3),
            write_units: self.write_units - earlier.write_units,
            read_units: self.read_units - earlier.read_units,
        }
    }
}

/// Shared by the clients of one backend.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    usage: Arc<Mutex<Usage>>,
    /// Whether DynamoDB is asked what a call used, which makes answers longer.
    units: bool,
}

impl Meter {
    pub(crate) fn new(units: bool) -> Self {
        Self { usage: Arc::default(), units }
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a call to DynamoDB is to ask for.
    pub(crate) fn ask(&self) -> Option<ReturnConsumedCapacity> {
        self.units.then_some(ReturnConsumedCapacity::Total)
    }

    pub(crate) fn wrote<'a>(&self, used: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        let units: f64 = used.into_iter().filter_map(|used| used.capacity_units).sum();
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).write_units += units;
    }

    /// A write whose condition did not hold is paid for, and not reported.
    pub(crate) fn refused(&self, units: f64) {
        if self.units {
            self.usage.lock().unwrap_or_else(PoisonError::into_inner).write_units += units;
        }
    }

    pub(crate) fn read<'a>(&self, used: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        let units: f64 = used.into_iter().filter_map(|used| used.capacity_units).sum();
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).read_units += units;
    }
}

impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "HaulageMeter"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(call) = config.load::<Metadata>() else { return Ok(()) };
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let service = match call.service() {
            "SQS" => {
                usage.sqs_charged += charged(context.request().body().content_length()).max(1);
                &mut usage.sqs
            }
            "DynamoDB" => &mut usage.dynamodb,
            _ => &mut usage.s3,
        };
        match service.get_mut(call.name()) {
            Some(count) => *count += 1,
            None => drop(service.insert(call.name().to_owned(), 1)),
        }
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if config.load::<Metadata>().is_some_and(|call| call.service() == "SQS") {
            // The request itself has been counted.
            let more = charged(context.response().body().content_length()).saturating_sub(1);
            self.usage.lock().unwrap_or_else(PoisonError::into_inner).sqs_charged += more;
        }
        Ok(())
    }
}

/// How many requests so many bytes are for SQS.
fn charged(bytes: Option<u64>) -> u64 {
    bytes.unwrap_or(0).div_ceil(64 << 10)
}
