//! List prices, all in one place.
//!
//! In US dollars, for the region us-east-1 (N. Virginia), as of June 2026,
//! without free tiers and volume discounts. Sources: the pricing pages "Amazon
//! SQS pricing", "Amazon DynamoDB pricing for on-demand capacity" and "Amazon
//! S3 pricing".

use haulage_aws::Usage;

pub(super) const REGION: &str = "us-east-1";
pub(super) const AS_OF: &str = "2026-06";

const MILLION: f64 = 1e6;
/// A request, or each 64 KB of a larger one.
const SQS_STANDARD: f64 = 0.40 / MILLION;
const SQS_FIFO: f64 = 0.50 / MILLION;
/// A write of up to 1 KB.
const WRITE_UNIT: f64 = 0.625 / MILLION;
/// A consistent read of up to 4 KB.
const READ_UNIT: f64 = 0.125 / MILLION;
const S3_PUT: f64 = 5.0 / MILLION;
const S3_GET: f64 = 0.4 / MILLION;

/// What some usage costs, in dollars.
pub(super) fn dollars(usage: &Usage, fifo: bool) -> f64 {
    let puts = usage.s3.get("PutObject").copied().unwrap_or(0) as f64;
    let gets = usage.s3.get("GetObject").copied().unwrap_or(0) as f64;
    usage.sqs_charged as f64 * if fifo { SQS_FIFO } else { SQS_STANDARD }
        + usage.write_units * WRITE_UNIT
        + usage.read_units * READ_UNIT
        + puts * S3_PUT
        + gets * S3_GET
}
