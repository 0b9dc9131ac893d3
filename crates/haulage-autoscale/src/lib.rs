//! How many tasks a queue of compute jobs needs.
//!
//! A service of ECS tasks works off an SQS queue. This crate turns what can be
//! seen of both into the [`Metrics`] that CloudWatch alarms and scaling
//! policies act on. It is pure: no clock, no network, no SDK. The program that
//! looks at queues and services on AWS is built with the feature `lambda`.
//!
//! ```
//! use haulage_autoscale::{Estimate, JobSeconds, Observation, QueueDepth, Service, Slots, Target};
//!
//! let observation = Observation {
//!     queue: QueueDepth { visible: 30, in_flight: 4, delayed: 0 },
//!     service: Service { running: 2, desired: 2, ..Service::default() },
//!     slots: Slots::new(2)?,
//!     job_time: Estimate::configured(JobSeconds::new(60.0)?),
//!     busy: None,
//! };
//! let metrics = observation.metrics(Target::new(300.0)?);
//!
//! // 34 jobs of a minute each, on two tasks that run two side by side.
//! assert_eq!(metrics.backlog_seconds.get(), 510.0);
//! // Four tasks have eight slots, which drain that in 255 seconds; three would take 340.
//! assert_eq!(metrics.required_tasks.get(), 4);
//! # Ok::<(), haulage_autoscale::Invalid>(())
//! ```

mod direct;
mod metrics;
mod observation;
pub mod sim;

pub use direct::{Direct, History, ScaleInWindow, TaskRange};
pub use metrics::{
    BacklogSeconds, CapacityDemand, Metrics, NAMESPACE, RequiredTasks, SCALE_IN, SCALE_OUT, ScaleInTo,
    ScaleOutTo,
};
pub use observation::{
    BUSY_OVER, BusySlots, Estimate, Invalid, JobSeconds, MEASURED_OVER, Observation, QueueDepth, Service,
    Slots, Target,
};
