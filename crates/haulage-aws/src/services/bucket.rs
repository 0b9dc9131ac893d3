//! The S3 bucket for large bodies and results.

use std::{sync::Arc, time::Duration};

use aws_sdk_s3::{
    Client, config::timeout::TimeoutConfig, error::SdkError, operation::get_object::GetObjectError,
    primitives::ByteStream,
};
use haulage::{Error, Result};
use tokio::sync::Semaphore;

use crate::{
    schema::body::{MAX_DOCUMENT, Packed, broken},
    services::fault::fault,
};

/// How many objects are written at once, and how many are read for claims: the
/// network is shared, and each has its time.
const AT_ONCE: usize = 4;
/// The time for an object to be written: this, and more by its size.
const WRITE: Duration = Duration::from_secs(30);
const SLOWEST_BYTES_PER_SECOND: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    client: Client,
    name: String,
    /// The account that it has to be in, where that is known.
    owner: Option<String>,
    writes: Arc<Semaphore>,
    /// For who reads a body with a claim.
    pub(crate) claims: Arc<Semaphore>,
}

/// Whether the name of an object says that it is compressed.
fn is_zstd(key: &str) -> bool {
    key.ends_with(".zst")
}

impl Bucket {
    pub(crate) fn new(client: Client, name: String, owner: Option<String>) -> Self {
        let at_once = || Arc::new(Semaphore::new(AT_ONCE));
        Self { client, name, owner, writes: at_once(), claims: at_once() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn owner(&self) -> Option<String> {
        self.owner.clone()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) async fn put(&self, key: &str, packed: &Packed) -> Result<()> {
        let _turn = self.writes.acquire().await;
        let time = WRITE + Duration::from_secs(packed.size() as u64 / SLOWEST_BYTES_PER_SECOND);
        // It covers the time that the body takes.
        let patient = aws_sdk_s3::config::Builder::new()
            .timeout_config(TimeoutConfig::builder().read_timeout(time).build());
        let content_type = if packed.is_zstd() { "application/zstd" } else { "application/json" };
        let call = self
            .client
            .put_object()
            .bucket(&self.name)
            .set_expected_bucket_owner(self.owner())
            .key(key)
            .content_type(content_type)
            .body(ByteStream::from(packed.bytes().to_vec()))
            .customize()
            .config_override(patient)
            .send();
        call.await.map(drop).map_err(|e| fault(format_args!("write to bucket {}", self.name), e))
    }

    /// The object, or `None` where it is not there.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Packed>> {
        let what = format_args!("read object {key} of bucket {}", self.name).to_string();
        let call =
            self.client.get_object().bucket(&self.name).set_expected_bucket_owner(self.owner()).key(key);
        let output = match call.send().await {
            Ok(output) => output,
            Err(SdkError::ServiceError(e)) if matches!(e.err(), GetObjectError::NoSuchKey(_)) => {
                return Ok(None);
            }
            Err(error) => return Err(fault(what, error)),
        };
        // Nobody has stored one so large through a submit or a settle.
        let size = output.content_length().unwrap_or_default();
        if usize::try_from(size).is_ok_and(|size| size > MAX_DOCUMENT) {
            return Err(broken(&format_args!(
                "object {key} has {size} bytes, and {MAX_DOCUMENT} are read at most"
            )));
        }
        let cut_off = |e| Error::unavailable(format!("cannot {what}: {e}"), e);
        let bytes = output.body.collect().await.map_err(cut_off)?.to_vec();
        Packed::from_bytes(bytes, is_zstd(key)).map(Some).map_err(|e| broken(&e))
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let call = self.client.delete_object().bucket(&self.name).set_expected_bucket_owner(self.owner());
        call.key(key)
            .send()
            .await
            .map(drop)
            .map_err(|e| fault(format_args!("delete from bucket {}", self.name), e))
    }
}
