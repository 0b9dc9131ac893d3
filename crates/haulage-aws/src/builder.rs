//! Setting up a backend in code.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::config::Credentials;
use haulage::Result;

use crate::{AwsBackend, Compression, Config, RawBodies, Records, ScaleInProtection, Unwrap, state::Tuning};

impl AwsBackend {
    /// Sets up a backend for this queue: its name, or its URL.
    pub fn builder(queue: impl Into<String>) -> Builder {
        Builder::new(Config::new(queue))
    }

    /// Sets up a backend from a configuration.
    pub fn with_config(config: Config) -> Builder {
        Builder::new(config)
    }
}

/// Sets up an [`AwsBackend`]; each method is also a parameter of the URL, of the
/// same name. The defaults are at [`Config`].
#[derive(Clone, Debug)]
#[must_use = "`open` makes the backend"]
pub struct Builder {
    config: Config,
    sdk: Option<SdkConfig>,
    tuning: Tuning,
}

impl Builder {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, sdk: None, tuning: Tuning::default() }
    }

    /// The DynamoDB table.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.config.table = name.into();
        self
    }

    /// The S3 bucket for large bodies and results.
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.config.bucket = Some(name.into());
        self
    }

    /// The account that the bucket is in: S3 refuses one of another.
    pub fn bucket_owner(mut self, account: impl Into<String>) -> Self {
        self.config.bucket_owner = Some(account.into());
        self
    }

    /// From which size on, in bytes, bodies and results go to the bucket.
    pub fn offload_above(mut self, bytes: usize) -> Self {
        self.config.offload_above = bytes;
        self
    }

    /// Whether bodies of more than 512 bytes that are not in the bucket are kept beside their records from the
    /// submit on.
    pub fn keep_bodies(mut self, keep: bool) -> Self {
        self.config.keep_bodies = keep;
        self
    }

    /// Whether successes are written without `expiration`, for readers that are not Haulage's: see
    /// [`Config::keep_successes`](crate::Config::keep_successes).
    pub fn keep_successes(mut self, keep: bool) -> Self {
        self.config.keep_successes = keep;
        self
    }

    /// How bodies and results are compressed.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// How bodies are read that other programs have sent.
    pub fn raw_bodies(mut self, raw_bodies: RawBodies) -> Self {
        self.config.raw_bodies = raw_bodies;
        self
    }

    /// What services of AWS have put around a body, and is taken off.
    pub fn unwrap(mut self, unwrap: Unwrap) -> Self {
        self.config.unwrap = unwrap;
        self
    }

    /// The AWS region.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.config.region = Some(region.into());
        self
    }

    /// The profile of the shared configuration files.
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.config.profile = Some(profile.into());
        self
    }

    /// The endpoint of all services.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.config.endpoint = Some(url.into());
        self
    }

    /// The AWS region of the table, where it is not that of the queue.
    pub fn table_region(mut self, region: impl Into<String>) -> Self {
        self.config.table_region = Some(region.into());
        self
    }

    /// The endpoint of DynamoDB, where it is not that of the other services.
    pub fn table_endpoint(mut self, url: impl Into<String>) -> Self {
        self.config.table_endpoint = Some(url.into());
        self
    }

    /// Protection of the ECS task against scale-in while it works.
    pub fn ecs_protection(mut self, protection: ScaleInProtection) -> Self {
        self.config.ecs_protection = protection;
        self
    }

    /// For how long one call protects the task.
    pub fn ecs_protection_expires(mut self, after: Duration) -> Self {
        self.config.ecs_protection_expires = after;
        self
    }

    /// How long a message may be held before it is handed over.
    pub fn visibility_limit(mut self, limit: Duration) -> Self {
        self.config.visibility_limit = limit;
        self
    }

    /// The configuration of the SDK, with region, credentials, endpoints, HTTP
    /// client and retries. Default: as the environment and profiles say.
    ///
    /// Its connections end with the backend, so do not share the HTTP client with
    /// what outlives it.
    pub fn sdk_config(mut self, sdk: SdkConfig) -> Self {
        self.sdk = Some(sdk);
        self
    }

    /// An access key with its secret, and the token of temporary credentials.
    /// Default: as the environment, profiles and roles say.
    pub fn credentials(
        mut self,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: Option<String>,
    ) -> Self {
        self.tuning.credentials = Some(credentials(access_key_id, secret_access_key, session_token));
        self
    }

    /// The same for the table alone, where it is not those of the queue.
    pub fn table_credentials(
        mut self,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: Option<String>,
    ) -> Self {
        self.tuning.table_credentials = Some(credentials(access_key_id, secret_access_key, session_token));
        self
    }

    /// Begins with a clock that is wrong by so many microseconds.
    #[doc(hidden)]
    pub fn clock_off_by(mut self, micros: i64) -> Self {
        self.tuning.clock_off_by = micros;
        self
    }

    /// For how long a submit tries to write its record. Default: a minute.
    #[doc(hidden)]
    pub fn record_patience(mut self, patience: Duration) -> Self {
        self.tuning.record_patience = Some(patience);
        self
    }

    /// For how long a submit waits for others with the same idempotency keys. Default: five minutes.
    #[doc(hidden)]
    pub fn key_patience(mut self, patience: Duration) -> Self {
        self.tuning.key_patience = Some(patience);
        self
    }

    /// For how long a look into the dead-letter queue hides what it finds, at least. Default: a minute.
    #[doc(hidden)]
    pub fn copies_hidden(mut self, hidden: Duration) -> Self {
        self.tuning.copies_hidden = Some(hidden);
        self
    }

    /// Counts capacity units, too, in [`AwsBackend::usage`]: DynamoDB is asked
    /// for them with every call.
    pub fn metered(mut self) -> Self {
        self.tuning.metered = true;
        self
    }

    /// Opens the backend also where the queue is not there, or cannot be reached:
    /// records can be read, cancelled and purged then. What needs the queue (submit,
    /// claim, redrive) fails with the reason.
    pub fn queue_optional(mut self) -> Self {
        self.tuning.queue_optional = true;
        self
    }

    /// Opens the backend.
    ///
    /// # Errors
    ///
    /// [`haulage::Error::Config`] where a setting is wrong or the queue does
    /// not exist; [`haulage::Error::Unavailable`] where AWS cannot be reached
    /// or refuses.
    pub async fn open(self) -> Result<AwsBackend> {
        AwsBackend::open(self.config, self.sdk, self.tuning).await
    }

    /// Opens the table alone.
    ///
    /// # Errors
    ///
    /// [`haulage::Error::Config`] where a setting is wrong.
    pub async fn open_records(self) -> Result<Records> {
        Records::open(self.config, self.sdk, self.tuning).await
    }
}

fn credentials(
    key: impl Into<String>,
    secret: impl Into<String>,
    session_token: Option<String>,
) -> Credentials {
    Credentials::new(key, secret, session_token, None, "haulage")
}
