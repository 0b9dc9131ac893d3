//! The clients of the SDK, set up alike.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use aws_sdk_sqs::config::Credentials;
use haulage::{Error, Result};

use crate::{clock::ServerClock, config::Config, meter::Meter};

/// How long one try of a call may take. SQS and DynamoDB answer within
/// milliseconds; what takes longer has been lost on the way.
const ATTEMPT: Duration = Duration::from_secs(10);

/// The clients of the services.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) region: String,
}

/// The SDK's configuration: from the environment, profiles and container or
/// instance roles, in the SDK's own order; given credentials go before those.
pub(crate) async fn load(config: &Config, credentials: Option<Credentials>) -> SdkConfig {
    // The TLS library that needs no more than a C compiler.
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials);
    }
    loader.load().await
}

impl Clients {
    pub(crate) fn new(
        sdk: &SdkConfig,
        config: &Config,
        of_table: Option<Credentials>,
        clock: &ServerClock,
        meter: &Meter,
    ) -> Result<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(ATTEMPT)
            .build();
        let slow = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .read_timeout(Duration::from_secs(30))
            .build();
        let mut sqs = aws_sdk_sqs::config::Builder::from(sdk)
            .timeout_config(timeouts.clone())
            .interceptor(clock.clone())
            .interceptor(meter.clone());
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(sdk)
            .timeout_config(timeouts)
            .interceptor(clock.clone())
            .interceptor(meter.clone());
        let mut s3 = aws_sdk_s3::config::Builder::from(sdk).timeout_config(slow).interceptor(meter.clone());
        if let Some(endpoint) = &config.endpoint {
            sqs = sqs.endpoint_url(endpoint);
            dynamodb = dynamodb.endpoint_url(endpoint);
            // Local servers have no host names for buckets.
            s3 = s3.endpoint_url(endpoint).force_path_style(true);
        }
        if let Some(endpoint) = &config.table_endpoint {
            dynamodb = dynamodb.endpoint_url(endpoint);
        }
        if let Some(region) = &config.table_region {
            dynamodb = dynamodb.region(Region::new(region.clone()));
        }
        if let Some(credentials) = of_table {
            dynamodb = dynamodb.credentials_provider(credentials);
        }
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        if region.is_empty() {
            return Err(Error::Config(
                "no AWS region is set; set AWS_REGION, name one in the profile, or add region=… to the URL"
                    .into(),
            ));
        }
        Ok(Self {
            sqs: aws_sdk_sqs::Client::from_conf(sqs.build()),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            region,
        })
    }
}
