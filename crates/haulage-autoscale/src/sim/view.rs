//! What a policy can see of a simulated service.

use super::Setup;
use crate::{BusySlots, Estimate, Observation, QueueDepth, Service};

/// What a policy can see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) queue: QueueDepth,
    pub(crate) service: Service,
    /// Seconds per job of the jobs that ended lately, and their number.
    pub(crate) measured: (f64, u64),
    /// What tasks published of their slots.
    pub(crate) busy: Option<BusySlots>,
}

impl View {
    /// What the Lambda makes of it.
    pub(crate) fn observed(&self, setup: &Setup, configured: Estimate) -> Observation {
        Observation {
            queue: self.queue,
            service: self.service,
            slots: setup.slots,
            job_time: configured.with_measured(self.measured.0, self.measured.1),
            busy: self.busy,
        }
    }
}
