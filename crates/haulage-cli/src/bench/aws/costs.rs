//! What a job costs by the size of its body and of its result, and by where they are kept.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use haulage::{Backend as _, Json, NewJob, Status, backend::Purge};
use haulage_aws::{AwsBackend, Config};
use serde::Serialize;

use super::{
    Place,
    load::{self, Submits},
    on_place, prices,
};
use crate::exit::Result;

/// Bodies, and results, of so many bytes.
const SIZES: [usize; 4] = [200, 4 << 10, 32 << 10, 256 << 10];
/// Jobs of each run.
const JOBS: u64 = 20;

const SUBMITS: [(&str, Submits); 3] = [
    ("bulk", Submits::Bulk),
    ("single", Submits::Single { keyed: false }),
    ("single, with a key", Submits::Single { keyed: true }),
];

/// Where bodies and results are kept.
const KEPT: [&str; 3] = ["table", "bucket", "message"];

/// Dollars a million jobs on a FIFO queue: by size in bytes, by the way of submits, and by
/// what has the body: the table, the bucket, or the message alone (`keep_bodies=false`). The
/// result is in the table, or in the bucket with its body.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Costs(BTreeMap<usize, BTreeMap<&'static str, BTreeMap<&'static str, f64>>>);

pub(super) async fn measure(config: &Config) -> Result<Costs> {
    let mut costs = Costs::default();
    for size in SIZES {
        for (name, submits) in SUBMITS {
            for kept in KEPT {
                // A queue of its own: the last poll of another run may still be open.
                let place = Place::new(config, true, kept == "bucket").await?;
                let dollars = on_place(place, async |place| one(place, size, submits, kept).await).await?;
                costs.0.entry(size).or_default().entry(name).or_default().insert(kept, dollars);
            }
        }
    }
    Ok(costs)
}

async fn one(place: &Place, size: usize, submits: Submits, kept: &str) -> Result<f64> {
    let mut config = place.config.clone();
    config.keep_bodies = kept != "message";
    config.offload_above = 0;
    let backend = AwsBackend::with_config(config).metered().open().await?;
    let job = NewJob::from_json(Json::from_stored(format!("{:?}", "x".repeat(size - 2))));
    let usage = load::run(backend, JOBS, job, submits).await?.usage;
    // What is in the bucket goes with its record.
    let all = Purge::status(Status::Success, Duration::ZERO);
    place.open().await?.purge(all).await?;
    Ok(prices::dollars(&usage, true) / JOBS as f64 * 1e6)
}

impl Costs {
    pub(super) fn table(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{:<44}{:>12}{:>12}{:>12}",
            "dollars a million jobs, body and result in the", KEPT[0], KEPT[1], KEPT[2]
        );
        for (size, by_submits) in &self.0 {
            for (name, _) in SUBMITS {
                let cost = |kept| by_submits.get(name).and_then(|costs| costs.get(kept)).copied();
                let [table, bucket, message] = KEPT.map(|kept| cost(kept).unwrap_or(f64::NAN));
                let what = format!("{size} bytes each, {name}");
                let _ = writeln!(text, "{what:<46}{table:>12.2}{bucket:>12.2}{message:>12.2}");
            }
        }
    }
}
