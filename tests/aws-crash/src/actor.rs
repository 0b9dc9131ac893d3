//! A consumer that may be killed at any instruction.

use std::{fs::File, io::Write, sync::Arc, time::Duration};

use haulage::{Consumer, Context, Failure, Job, RetryPolicy, shutdown::Shutdown};
use haulage_aws::AwsBackend;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (url, starts) = (args.next().ok_or("no URL")?, args.next().ok_or("no file")?);
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let starts = Arc::new(File::options().create(true).append(true).open(starts)?);
    // The body says what to do: 0 to 9 milliseconds of work, or to fail once.
    let handler = move |job: Job<u64>, ctx: Context| {
        let starts = starts.clone();
        async move {
            // In one write, as others append to the file at the same time.
            let line = format!("{} {}\n", ctx.job_id(), ctx.attempt());
            (&*starts).write_all(line.as_bytes()).map_err(|e| Failure::retry(e.to_string()))?;
            if job.body % 20 == 3 && ctx.attempt() == 1 {
                return Err(Failure::retry("the first time"));
            }
            tokio::time::sleep(Duration::from_millis(job.body % 10)).await;
            Ok(job.body)
        }
    };
    let backend = Arc::new(AwsBackend::connect(&url).await?);
    let consumer = Consumer::builder(backend)
        .concurrency(16)
        .lease(Duration::from_secs(4))
        .claim_wait(Duration::from_secs(2))
        .retry_policy(RetryPolicy { base: Duration::from_millis(20), cap: Duration::from_millis(200) })
        .handler(handler)
        .build()?;
    consumer.run(Shutdown::on_signals()?).await;
    Ok(())
}
