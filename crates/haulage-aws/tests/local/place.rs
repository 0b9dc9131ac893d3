//! Queues and tables of one's own, on local servers.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use aws_sdk_sqs::{
    config::Credentials,
    types::QueueAttributeName::{FifoQueue, QueueArn, RedrivePolicy},
};
use haulage_aws::{AwsBackend, Builder};
use haulage_servers::Server;

/// The server that all tests of this process share.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(haulage_servers::ministack)
}

/// Where it is.
pub(crate) fn ministack() -> &'static str {
    server().url()
}

/// A queue with its dead-letter queue and a table, which no other test uses.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) queue: String,
    pub(crate) table: String,
    pub(crate) dead: String,
    pub(crate) sqs_url: String,
    pub(crate) dynamodb_url: String,
    pub(crate) redrive: String,
}

/// After how many receives a message goes to the dead-letter queue.
pub(crate) const MAX_RECEIVES: u32 = 10;

pub(crate) async fn sdk(url: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .load()
        .await
}

impl Place {
    /// On ministack.
    pub(crate) async fn fifo() -> Self {
        Self::on(true, ministack(), ministack()).await
    }

    /// On ministack, with a standard queue.
    pub(crate) async fn standard() -> Self {
        Self::on(false, ministack(), ministack()).await
    }

    pub(crate) async fn on(fifo: bool, sqs_url: &str, dynamodb_url: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let end = if fifo { ".fifo" } else { "" };
        let place = Self {
            queue: format!("{name}{end}"),
            dead: format!("{name}-dead{end}"),
            table: name,
            sqs_url: sqs_url.to_owned(),
            dynamodb_url: dynamodb_url.to_owned(),
            redrive: String::new(),
        };
        let sqs = place.sqs().await;
        let kind = fifo.then(|| [(FifoQueue, "true".to_owned())].into());
        let dead = sqs.create_queue().queue_name(&place.dead).set_attributes(kind.clone()).send();
        let dead = dead.await.expect("a queue").queue_url.expect("its URL");
        let arn = sqs.get_queue_attributes().queue_url(dead).attribute_names(QueueArn).send().await;
        let arn =
            arn.expect("attributes").attributes.expect("attributes").remove(&QueueArn).expect("the ARN");
        let redrive = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"{MAX_RECEIVES}"}}"#);
        let queue = sqs.create_queue().queue_name(&place.queue).set_attributes(kind);
        queue.attributes(RedrivePolicy, &redrive).send().await.expect("a queue");
        let place = Self { redrive, ..place };

        let attribute = |name, kind| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().expect("a name")
        };
        let key = |name, kind| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("a key")
        };
        let index = |name, by, order, projection| {
            let index = GlobalSecondaryIndex::builder().index_name(name).projection(projection);
            let keys = [key(by, KeyType::Hash), key(order, KeyType::Range)];
            index.set_key_schema(Some(keys.into())).build().expect("an index")
        };
        let keys = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
        let projected = ["host", "job", "queue", "created_at"].map(str::to_owned).into();
        let some = Projection::builder().projection_type(ProjectionType::Include);
        let some = some.set_non_key_attributes(Some(projected)).build();
        let table = place.dynamodb().await.create_table().table_name(&place.table);
        table
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("message_id", ScalarAttributeType::S))
            .attribute_definitions(attribute("dead_of", ScalarAttributeType::S))
            .attribute_definitions(attribute("submitted_at", ScalarAttributeType::N))
            .attribute_definitions(attribute("webhook_of", ScalarAttributeType::S))
            .attribute_definitions(attribute("due_at", ScalarAttributeType::N))
            .key_schema(key("message_id", KeyType::Hash))
            .global_secondary_indexes(index("dead_letters", "dead_of", "submitted_at", keys))
            .global_secondary_indexes(index("webhooks", "webhook_of", "due_at", some))
            .send()
            .await
            .expect("a table");
        place
    }

    pub(crate) async fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&sdk(&self.sqs_url).await)
    }

    pub(crate) async fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&sdk(&self.dynamodb_url).await)
    }

    /// A backend on this place, to be set up further.
    pub(crate) async fn builder(&self) -> Builder {
        let one = self.sqs_url == self.dynamodb_url;
        let sdk = sdk(&self.sqs_url).await;
        let builder = AwsBackend::builder(&self.queue).table(&self.table).sdk_config(sdk);
        if one { builder } else { builder.table_endpoint(&self.dynamodb_url) }
    }

    pub(crate) async fn open(&self) -> AwsBackend {
        // A server that has just started on a busy machine may be slow at first.
        for _ in 0..3 {
            match self.builder().await.open().await {
                Ok(backend) => return backend,
                Err(haulage::Error::Unavailable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.builder().await.open().await.expect("a backend")
    }

    /// What a named queue is called in SQS.
    pub(crate) fn named(&self, queue: &str) -> String {
        match self.queue.strip_suffix(".fifo") {
            Some(stem) => format!("{stem}--{queue}.fifo"),
            None => format!("{}--{queue}", self.queue),
        }
    }

    /// Makes a named queue, with the same dead-letter queue.
    pub(crate) async fn make_queue(&self, name: &str) {
        let kind = self.queue.ends_with(".fifo").then(|| [(FifoQueue, "true".to_owned())].into());
        let queue = self.sqs().await.create_queue().queue_name(self.named(name)).set_attributes(kind);
        queue.attributes(RedrivePolicy, &self.redrive).send().await.expect("a queue");
    }

    /// The same queue and table through a proxy.
    pub(crate) fn through(&self, url: &str) -> Self {
        Self { sqs_url: url.to_owned(), dynamodb_url: url.to_owned(), ..self.clone() }
    }
}

/// A bucket on ministack.
pub(crate) async fn bucket() -> &'static str {
    bucket_on(ministack()).await
}

pub(crate) async fn bucket_on(url: &str) -> &'static str {
    let name = "haulage-test-payloads";
    let config = aws_sdk_s3::config::Builder::from(&sdk(url).await).force_path_style(true).build();
    // Another test may have made it.
    let _ = aws_sdk_s3::Client::from_conf(config).create_bucket().bucket(name).send().await;
    name
}
