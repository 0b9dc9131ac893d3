//! Latency: how soon an idle worker in another process starts on a job, and
//! how soon the producer has its result.

use std::time::{Duration, Instant};

use haulage::{Clock, Producer};

use super::{actor::Actor, report::percentile};
use crate::exit::Result;

#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) pickup_p50_ms: f64,
    pub(super) pickup_p99_ms: f64,
    pub(super) roundtrip_p50_ms: f64,
}

pub(super) async fn measure(producer: &Producer, url: &str, samples: usize) -> Result<Latency> {
    const WARM_UP: usize = 20;
    let mut worker = Actor::start(url, &["echo"]).await?;
    worker.go().await?;
    let (mut pickups, mut roundtrips) = (Vec::new(), Vec::new());
    for sample in 0..WARM_UP + samples {
        let began = Instant::now();
        let job = producer.submit(&serde_json::Value::Null).await?;
        let acknowledged = Clock::system().now().as_micros();
        let started: i64 = job.result(Some(Duration::from_secs(30))).await?;
        let roundtrip = began.elapsed();
        if sample >= WARM_UP {
            // The handler can start before the acknowledgement arrives here.
            pickups.push((started - acknowledged).max(0) as f64 / 1e3);
            roundtrips.push(roundtrip.as_secs_f64() * 1e3);
        }
        // Lets the worker become idle again, as it is in the case that is measured.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    worker.stop().await?;
    Ok(Latency {
        pickup_p50_ms: percentile(&mut pickups, 0.50),
        pickup_p99_ms: percentile(&mut pickups, 0.99),
        roundtrip_p50_ms: percentile(&mut roundtrips, 0.50),
    })
}
