//! Measures the scaling Lambda as `make lambda` has built it: `bench-lambda .tools/lambda`.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use haulage_servers::{Lambda, Server, lambda::Told, ministack_for_scaling};
use serde_json::{Value, json};

const STARTS: usize = 40;
const PAIRS: usize = 10;
const TIME: Duration = Duration::from_secs(59);

/// What it must not grow beyond: some times what is measured (docs/deploy.md),
/// and half of the memory that the Lambda has.
const LIMITS: [(&str, f64); 4] =
    [("/zip_mb/arm64", 4.0), ("/zip_mb/x86_64", 4.0), ("/cold_start_ms", 60.0), ("/resident_mb", 64.0)];

#[allow(clippy::print_stdout, clippy::print_stderr)] // a program of its own
fn main() {
    let folder = std::env::args_os().nth(1).expect("usage: bench-lambda FOLDER");
    let folder = Path::new(&folder);
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    let program = folder.join(architecture).join("bootstrap");
    let zip = |name: &str| {
        let size = fs::metadata(folder.join(format!("haulage-autoscale-{name}.zip"))).expect("a zip").len();
        round(size as f64 / 1e6, 100.0)
    };
    let (ready, handled): (Vec<_>, Vec<_>) = (0..STARTS).map(|_| start(&program)).unzip();
    let resident = resident(&program);
    let result = json!({
        "zip_mb": { "arm64": zip("arm64"), "x86_64": zip("x86_64") },
        "ready_ms": median(ready),
        "cold_start_ms": median(handled),
        "resident_mb": resident,
    });
    println!("zip_mb: the packages");
    println!("ready_ms: from the start of the process until it asks for its first event, median of {STARTS}");
    println!("cold_start_ms: until the handler has refused a first event that makes no sense");
    println!(
        "resident_mb: at most, in a look at {PAIRS} pairs (without TLS, which local servers do not speak)"
    );
    println!("{result}");
    let over: Vec<_> = LIMITS
        .iter()
        .filter_map(|(name, limit)| {
            let measured = result.pointer(name).and_then(Value::as_f64).expect("a number");
            (measured > *limit).then(|| format!("{name} is {measured}, and more than {limit}"))
        })
        .collect();
    if !over.is_empty() {
        eprintln!("bench-lambda: {}", over.join("; "));
        std::process::exit(1);
    }
}

/// Until it is ready, and until its handler has answered, in milliseconds.
fn start(program: &Path) -> (f64, f64) {
    let start = Instant::now();
    let lambda = Lambda::start(program, []);
    let ready = lambda.ready();
    let (answered, told) = lambda.invoke(&json!({}), TIME);
    assert!(matches!(told, Told::Error(_)), "{told:?}");
    ((ready - start).as_secs_f64() * 1e3, (answered - start).as_secs_f64() * 1e3)
}

/// The most memory that was in use, in MB.
fn resident(program: &Path) -> f64 {
    let aws = ministack_for_scaling();
    let pairs: Vec<_> = (0..PAIRS).map(|number| pair(&aws, &format!("pair-{number}"))).collect();
    let lambda = Lambda::start(program, [("AWS_ENDPOINT_URL", aws.url())]);
    let (_, told) = lambda.invoke(&json!({ "samples_per_minute": 1, "pairs": pairs }), TIME);
    assert_eq!(told, Told::Answer(json!({ "looks": 1, "pairs": PAIRS })));
    let status = fs::read_to_string(format!("/proc/{}/status", lambda.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    round(kilobytes * 1024.0 / 1e6, 10.0)
}

fn pair(aws: &Server, name: &str) -> Value {
    let queue = aws.call("AmazonSQS.CreateQueue", &json!({ "QueueName": name }));
    aws.call(
        "AmazonEC2ContainerServiceV20141113.CreateService",
        &json!({ "cluster": "bench", "serviceName": name, "taskDefinition": "task", "desiredCount": 1 }),
    );
    json!({
        "cluster": "bench", "service": name, "queue_name": name, "queue_url": queue["QueueUrl"],
        "slots_per_task": 1, "job_seconds": 60, "target_seconds": 60,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    round(values[values.len() / 2], 10.0)
}

fn round(value: f64, by: f64) -> f64 {
    (value * by).round() / by
}
