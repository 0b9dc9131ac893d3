//! The clients of the services.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

/// What is read, and where the metrics go.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) ecs: aws_sdk_ecs::Client,
    pub(crate) cloudwatch: aws_sdk_cloudwatch::Client,
}

impl Services {
    /// As the environment says, in the SDK's own ways: role, region,
    /// `AWS_ENDPOINT_URL` and the like.
    pub(crate) async fn from_env() -> Self {
        // The TLS library that needs no more than a C compiler.
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        // So that there is time for another attempt; a sample has a limit for them all.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .operation_attempt_timeout(Duration::from_secs(3))
            .build();
        let loader =
            aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts);
        Self::new(&loader.load().await)
    }

    pub(crate) fn new(sdk: &SdkConfig) -> Self {
        Self {
            sqs: aws_sdk_sqs::Client::new(sdk),
            ecs: aws_sdk_ecs::Client::new(sdk),
            cloudwatch: aws_sdk_cloudwatch::Client::new(sdk),
        }
    }
}
