//! `ping`: whether queue and table answer.

use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use haulage::Result;

use crate::{
    services::fault::{fault, is_denied},
    state::Shared,
};

/// Any key will do.
const NO_JOB: &str = "ping";

pub(crate) async fn ping(inner: Shared) -> Result<()> {
    let queue = inner.queues.default();
    let call = queue.client().get_queue_attributes().queue_url(&queue.url);
    let (queue_said, table_said) = futures_util::join!(
        call.attribute_names(QueueAttributeName::QueueArn).send(),
        inner.store.table.get(NO_JOB)
    );
    match queue_said {
        // Workers need not be allowed it; a queue that says so is there.
        Err(error) if !error.code().is_some_and(is_denied) => {
            return Err(fault(format_args!("reach queue {}", queue.name), error));
        }
        _ => {}
    }
    table_said.map(drop)
}
