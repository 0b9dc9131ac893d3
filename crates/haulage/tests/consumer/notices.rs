//! What the store is told of consumers that are not ready.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use haulage::{
    Backend, Clock, Consumer, Failure, Job, Json, NewJob, Producer,
    backend::Unready,
    consumer::{ConsumerBuilder, Event, Summary},
    memory::MemoryBackend,
    metrics::WorkerState,
};

use crate::support::{Faulty, Mode, Running, Verb, manual_clock, s, soon};

/// What a probe asks for.
#[derive(Clone, Default)]
struct Model(Arc<AtomicBool>);

impl Model {
    fn loaded(&self, loaded: bool) {
        self.0.store(loaded, Ordering::SeqCst);
    }

    /// A consumer of two queues that takes no jobs before the model is loaded.
    fn consumer(&self, backend: Arc<dyn Backend>) -> ConsumerBuilder {
        let (asked, needed) = (self.clone(), self.clone());
        let probe = move || {
            let loaded = asked.0.load(Ordering::SeqCst);
            async move { if loaded { Ok(()) } else { Err(Failure::retry("/ping answered 503")) } }
        };
        let handler = move |_: Job<Json>, _| {
            let loaded = needed.0.load(Ordering::SeqCst);
            async move { if loaded { Ok(1) } else { Err(Failure::not_ready("connection refused")) } }
        };
        let queues: haulage::Queues = "gpu,bulk".parse().expect("queues");
        Consumer::builder(backend).worker_name("w:1").queues(queues).handler(handler).readiness_probe(probe)
    }
}

/// Moves the clock on, a little at a time, until this is so.
async fn until(clock: &Clock, is_so: impl AsyncFn() -> bool) {
    soon(async {
        while !is_so().await {
            clock.advance(std::time::Duration::from_millis(100));
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn known(backend: &Faulty) -> BTreeMap<String, Unready> {
    backend.unready_workers().await.expect("workers")
}

#[tokio::test]
async fn a_consumer_that_is_not_ready_tells_why_as_long_as_it_is_so() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let (clock, began) = (backend.clock().clone(), backend.clock().now());
    let model = Model::default();
    let running = Running::start(model.consumer(backend.clone()));
    until(&clock, async || !known(&backend).await.is_empty()).await;
    assert!(clock.now().since(began) >= s(2), "what is over soon is not told");
    let told = known(&backend).await.remove("w:1").expect("it is there");
    let queues: Vec<_> = told.queues.iter().map(|queue| queue.as_str()).collect();
    assert_eq!((queues, told.reason.as_str()), (vec!["gpu", "bulk"], "/ping answered 503"));
    assert!(told.since.since(began) < s(1), "since the probe first said so, not since it was told");
    // It is repeated before it is forgotten, and in time that one may get lost.
    until(&clock, async || backend.count(Verb::SetUnready) >= 4).await;
    let calls = backend.calls(Verb::SetUnready);
    assert!(calls.windows(2).all(|two| two[1].at.since(two[0].at) <= Unready::KEPT / 2), "{calls:?}");
    assert_eq!(known(&backend).await["w:1"], told);
    model.loaded(true);
    until(&clock, async || known(&backend).await.is_empty()).await;
    let told = backend.count(Verb::SetUnready);
    // Ready, and no longer talking.
    let job = NewJob::new(&1).expect("body").queue("bulk".parse().expect("a name"));
    let job = Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    assert_eq!(soon(job.result::<u32>(None)).await.expect("its result"), 1);
    clock.advance(Unready::KEPT);
    running.stop().await;
    assert_eq!(backend.count(Verb::SetUnready), told);
}

#[tokio::test]
async fn one_whose_handler_gives_jobs_back_or_whose_slots_are_all_out_of_service_tells_it_too() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let clock = backend.clock().clone();
    let handler = async |_: Job<u8>, _| Err::<(), _>(Failure::not_ready("connection refused"));
    let mut running = Running::start(Consumer::builder(backend.clone()).worker_name("w:1").handler(handler));
    Producer::new(backend.clone()).submit(&1).await.expect("submit");
    assert!(matches!(running.ending().await, Event::Released { .. }));
    until(&clock, async || !known(&backend).await.is_empty()).await;
    assert_eq!(known(&backend).await["w:1"].reason, "connection refused");
    running.stop().await;
    assert_eq!(known(&backend).await, BTreeMap::new(), "who has ended is not known as not ready");

    let handler = async |_: Job<u8>, _| Ok::<_, Failure>(());
    let running = Running::start(Consumer::builder(backend.clone()).worker_name("w:2").handler(handler));
    running.slots.quarantine(0, "GPU 0: CUDA error");
    until(&clock, async || !known(&backend).await.is_empty()).await;
    assert_eq!(known(&backend).await["w:2"].reason, "GPU 0: CUDA error");
    running.slots.restore(0);
    until(&clock, async || known(&backend).await.is_empty()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_told_disturbs_nobody() {
    for mode in [Mode::Fails, Mode::Panics, Mode::Stalls] {
        let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
        let clock = backend.clock().clone();
        backend.set(Verb::SetUnready, mode);
        let model = Model::default();
        let running = Running::start(model.consumer(backend.clone()));
        until(&clock, async || backend.count(Verb::SetUnready) > 0).await;
        model.loaded(true);
        until(&clock, async || running.meter.snapshot().state == WorkerState::Ready).await;
        let job = NewJob::new(&1).expect("body").queue("gpu".parse().expect("a name"));
        let job = Producer::new(backend.clone()).submit_job(job).await.expect("submit");
        assert_eq!(soon(job.result::<u32>(None)).await.expect("its result"), 1, "{mode:?}");
        backend.set(Verb::SetUnready, Mode::Works);
        assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() });
    }
}

#[tokio::test]
async fn a_store_that_does_not_keep_it_is_not_told() {
    let inner = MemoryBackend::with_clock(manual_clock());
    let backend = Faulty::with(inner, |can| can.keeps_unready = false);
    let clock = backend.clock().clone();
    let running = Running::start(Model::default().consumer(backend.clone()));
    until(&clock, async || running.meter.snapshot().state == WorkerState::NotReady).await;
    clock.advance(s(60));
    running.stop().await;
    assert_eq!(backend.count(Verb::SetUnready), 0);
}
