//! What single verbs of the backends cost, without processes around them:
//! `cargo bench --package haulage`. For the whole, see `haulage bench`.
#![allow(missing_docs)]

use std::{sync::Arc, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use haulage::{
    Backend, Json, NewJob,
    backend::{ClaimRequest, Claimed, Outcome, Settlement},
    memory::MemoryBackend,
    sqlite::SqliteBackend,
};
use tokio::runtime::Runtime;

const SIZES: [usize; 3] = [1, 64, 1_000];

fn jobs(count: usize) -> Vec<NewJob> {
    let body = Json::encode(&"x".repeat(198)).expect("JSON");
    (0..count).map(|_| NewJob::from_json(body.clone())).collect()
}

async fn claim(backend: &dyn Backend, max: usize) -> Vec<Claimed> {
    let request = ClaimRequest::new("bench", Duration::from_secs(3600)).max(max);
    backend.claim(request, Default::default()).await.expect("claim")
}

async fn settle(backend: &dyn Backend, claims: Vec<Claimed>) {
    let success = |c: Claimed| Settlement::new(c.key, Outcome::Success(c.body));
    let answers = backend.settle(claims.into_iter().map(success).collect()).await.expect("settle");
    assert!(answers.iter().all(Result::is_ok));
}

fn verbs(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("runtime");
    let folder = tempfile::tempdir().expect("tempdir");
    let sqlite = runtime.block_on(SqliteBackend::open(folder.path().join("bench.db"))).expect("open");
    let backends: [Arc<dyn Backend>; 2] = [Arc::new(MemoryBackend::new()), Arc::new(sqlite)];
    for backend in backends {
        let mut group = criterion.benchmark_group(backend.name());
        for size in SIZES {
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new("submit", size), |bencher| {
                let submit = |jobs| runtime.block_on(backend.submit(jobs)).expect("submit");
                bencher.iter_batched(|| jobs(size), submit, BatchSize::LargeInput);
            });
            group.bench_function(BenchmarkId::new("claim and settle", size), |bencher| {
                let fill = || drop(runtime.block_on(backend.submit(jobs(size))).expect("submit"));
                let work = |()| {
                    runtime.block_on(async {
                        let claims = claim(&*backend, size).await;
                        settle(&*backend, claims).await;
                    });
                };
                bencher.iter_batched(fill, work, BatchSize::PerIteration);
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = verbs
}
criterion_main!(benches);
