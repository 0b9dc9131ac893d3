//! The S3 bucket for large bodies and results.

use aws_sdk_s3::{Client, error::SdkError, operation::get_object::GetObjectError, primitives::ByteStream};
use haulage::{Error, Result};

use crate::{body::Packed, fault::fault};

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    client: Client,
    name: String,
}

/// Whether the name of an object says that it is compressed.
fn is_zstd(key: &str) -> bool {
    key.ends_with(".zst")
}

impl Bucket {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) async fn put(&self, key: &str, packed: &Packed) -> Result<()> {
        let content_type = if packed.is_zstd() { "application/zstd" } else { "application/json" };
        let call = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .content_type(content_type)
            .body(ByteStream::from(packed.bytes().to_vec()))
            .send();
        call.await.map(drop).map_err(|e| fault(format_args!("write to bucket {}", self.name), e))
    }

    /// The object, or `None` where it is not there.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Packed>> {
        let what = format_args!("read object {key} of bucket {}", self.name).to_string();
        let output = match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(output) => output,
            Err(SdkError::ServiceError(e)) if matches!(e.err(), GetObjectError::NoSuchKey(_)) => {
                return Ok(None);
            }
            Err(error) => return Err(fault(what, error)),
        };
        let broken = |e: &dyn std::fmt::Display| Error::Unavailable {
            message: format!("cannot {what}: {e}"),
            source: None,
        };
        let bytes = output.body.collect().await.map_err(|e| broken(&e))?.to_vec();
        Packed::from_bytes(bytes, is_zstd(key)).map(Some).map_err(|e| broken(&e))
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let call = self.client.delete_object().bucket(&self.name).key(key).send();
        call.await.map(drop).map_err(|e| fault(format_args!("delete from bucket {}", self.name), e))
    }
}
