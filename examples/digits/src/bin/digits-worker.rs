//! A worker for the digits example: runs jobs from the queue that
//! `HAULAGE_URL` names, until SIGTERM or Ctrl-C.

use haulage::shutdown::Shutdown;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("HAULAGE_URL").unwrap_or_else(|_| "sqlite://haulage.db".into());
    let consumer = haulage_digits::worker::consumer(haulage::connect(&url).await?)?;
    consumer.run(Shutdown::on_signals()?).await;
    Ok(())
}
