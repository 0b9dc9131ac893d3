//! The backend passes the suite that all backends pass.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend,
    conformance::{self, Subject},
};
use haulage_aws::Compression;

use crate::place::{Place, bucket, ministack};

/// One way to set the backend up.
struct Aws {
    fifo: bool,
    bucket: Option<&'static str>,
    compression: Compression,
    dynamodb: String,
}

#[async_trait::async_trait]
impl Subject for Aws {
    async fn fresh(&self) -> Arc<dyn Backend> {
        let place = Place::on(self.fifo, ministack(), &self.dynamodb).await;
        let mut builder = place.builder().await.compression(self.compression);
        if let Some(bucket) = self.bucket {
            builder = builder.bucket(bucket);
        }
        Arc::new(builder.open().await.expect("a backend"))
    }

    /// SQS counts in whole seconds, and the servers share their machine with much else.
    fn tick(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn pass(&self, _backend: &dyn Backend, by: Duration) {
        tokio::time::sleep(by).await;
    }

    fn longest_pass(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn at_once(&self) -> usize {
        20
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifo_queue_without_bucket() {
    let dynamodb = ministack().to_owned();
    let subject = Aws { fifo: true, bucket: None, compression: Compression::None, dynamodb };
    conformance::run(&subject).await.assert_ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_queue_with_bucket_and_compression() {
    let dynamodb = ministack().to_owned();
    let subject = Aws { fifo: false, bucket: Some(bucket().await), compression: Compression::Zstd, dynamodb };
    conformance::run(&subject).await.assert_ok();
}

/// DynamoDB's own judgement of our expressions; needs Java.
#[cfg(feature = "test-full")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_dynamodb_local() {
    let server = haulage_servers::dynamodb_local();
    let dynamodb = server.url().to_owned();
    let subject = Aws { fifo: true, bucket: Some(bucket().await), compression: Compression::None, dynamodb };
    conformance::run(&subject).await.assert_ok();
}
