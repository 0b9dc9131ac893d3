//! The backend passes the suite that all backends pass.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend,
    conformance::{self, Subject},
};
use haulage_aws::Compression;
use haulage_servers::{Server, ministack};

use crate::place::{Place, bucket_on};

/// One way to set the backend up, on a server of its own: what other tests do
/// to theirs must not take this one's time.
struct Aws {
    server: Server,
    fifo: bool,
    bucket: Option<&'static str>,
    compression: Compression,
    keep_bodies: bool,
    dynamodb: Option<Server>,
}

#[async_trait::async_trait]
impl Subject for Aws {
    async fn fresh(&self) -> Arc<dyn Backend> {
        let dynamodb = self.dynamodb.as_ref().unwrap_or(&self.server);
        let place = Place::on(self.fifo, self.server.url(), dynamodb.url()).await;
        for name in conformance::QUEUES {
            place.make_queue(name).await;
        }
        let mut builder = place.builder().await.compression(self.compression).keep_bodies(self.keep_bodies);
        if let Some(bucket) = self.bucket {
            builder = builder.bucket(bucket);
        }
        Arc::new(builder.open().await.expect("a backend"))
    }

    /// SQS counts in whole seconds, and the servers share their machine with much else.
    fn tick(&self) -> Duration {
        Duration::from_secs(3)
    }

    async fn pass(&self, _backend: &dyn Backend, by: Duration) {
        tokio::time::sleep(by).await;
    }

    fn longest_pass(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn at_once(&self) -> usize {
        16
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

/// How many sequences the model test tries, in about half a minute.
const MODEL: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifo_queue_without_bucket() {
    let subject = Aws {
        server: ministack(),
        fifo: true,
        bucket: None,
        compression: Compression::None,
        keep_bodies: true,
        dynamodb: None,
    };
    conformance::run(&subject).await.assert_ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_queue_with_bucket_and_compression_that_keeps_no_bodies() {
    let server = ministack();
    let bucket = Some(bucket_on(server.url()).await);
    let subject = Aws {
        server,
        fifo: false,
        bucket,
        compression: Compression::Zstd,
        keep_bodies: false,
        dynamodb: None,
    };
    conformance::run(&subject).await.assert_ok();
}

#[test]
fn a_fifo_queue_agrees_with_the_model() {
    let subject = Aws {
        server: ministack(),
        fifo: true,
        bucket: None,
        compression: Compression::None,
        keep_bodies: true,
        dynamodb: None,
    };
    conformance::run_model(&subject, MODEL);
}

#[test]
fn a_standard_queue_agrees_with_the_model() {
    let subject = Aws {
        server: ministack(),
        fifo: false,
        bucket: None,
        compression: Compression::None,
        keep_bodies: true,
        dynamodb: None,
    };
    conformance::run_model(&subject, MODEL);
}

/// What only `make test-servers` runs.
mod full {
    use std::sync::Mutex;

    use haulage_http::{
        HttpBackend,
        server::{Server, WebhookSecret, Webhooks},
    };

    use super::*;

    fn aws(server: haulage_servers::Server) -> Aws {
        let compression = Compression::None;
        Aws { server, fifo: true, bucket: None, compression, keep_bodies: true, dynamodb: None }
    }

    /// DynamoDB's own judgement of our expressions.
    #[ignore = "needs Java"]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_dynamodb_local() {
        let server = ministack();
        let bucket = Some(bucket_on(server.url()).await);
        let dynamodb = Some(haulage_servers::dynamodb_local());
        conformance::run(&Aws { bucket, dynamodb, ..aws(server) }).await.assert_ok();
    }

    /// The backend as a client of a server has it, which stands before the queue.
    struct Served {
        aws: Aws,
        folder: tempfile::TempDir,
        servers: Mutex<Vec<Server>>,
    }

    #[async_trait::async_trait]
    impl Subject for Served {
        async fn fresh(&self) -> Arc<dyn Backend> {
            let secrets = self.folder.path().join("secrets");
            std::fs::write(&secrets, WebhookSecret::create().expect("a secret")).expect("write");
            let server = Server::builder(self.aws.fresh().await).listen("127.0.0.1:0");
            // The suite tells itself.
            let server = server.webhooks(Webhooks::new(secrets).leave_to_others()).start().expect("a server");
            let client = HttpBackend::builder(format!("http://{}", server.address()));
            self.servers.lock().expect("servers").push(server);
            Arc::new(client.open().await.expect("the server answers"))
        }

        fn tick(&self) -> Duration {
            self.aws.tick()
        }

        async fn pass(&self, backend: &dyn Backend, by: Duration) {
            self.aws.pass(backend, by).await;
        }

        fn longest_pass(&self) -> Duration {
            self.aws.longest_pass()
        }

        fn at_once(&self) -> usize {
            self.aws.at_once()
        }

        fn patience(&self) -> Duration {
            self.aws.patience()
        }
    }

    #[ignore = "takes minutes"]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn behind_a_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let subject = Served { aws: aws(ministack()), folder, servers: Mutex::default() };
        conformance::run(&subject).await.assert_ok();
    }
}
