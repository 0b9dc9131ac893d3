//! The clients of the SDK, set up alike.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use aws_sdk_sqs::config::Credentials;
use haulage::{Error, Result};

use crate::{
    config::Config,
    services::{clock::ServerClock, meter::Meter},
};

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
        let of_arn = config.table_arn().map(|arn| arn.region.to_owned());
        if let Some(region) = config.table_region.clone().or(of_arn) {
            dynamodb = dynamodb.region(Region::new(region));
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_config::retry::RetryConfig;
    use aws_smithy_runtime_api::client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::HttpRequest,
        result::ConnectorError,
    };

    use super::*;

    /// Notes whom a call was for, and lets none through.
    #[derive(Clone, Debug, Default)]
    struct Stub(Arc<Mutex<Vec<String>>>);

    impl HttpConnector for Stub {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let host = request.uri().split('/').nth(2).unwrap_or_default().to_owned();
            self.0.lock().expect("no panic").push(host);
            HttpConnectorFuture::ready(Err(ConnectorError::user("it is a stub".into())))
        }
    }

    /// Where SQS, DynamoDB and S3 are called, with these settings of the SDK.
    async fn hosts(url: &str, region: &'static str, fips: bool, dual_stack: bool) -> [String; 3] {
        let stub = Stub::default();
        let connector = SharedHttpConnector::new(stub.clone());
        let credentials = Credentials::new("local", "local", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .use_fips(fips)
            .use_dual_stack(dual_stack)
            .http_client(http_client_fn(move |_, _| connector.clone()));
        let config = Config::from_url(url).expect("a URL");
        let (clock, meter) = (ServerClock::new(0), Meter::new(false));
        let clients = Clients::new(&sdk.build(), &config, None, &clock, &meter).expect("clients");
        let _ = clients.sqs.get_queue_url().queue_name("jobs").send().await;
        let _ = clients.dynamodb.describe_table().table_name(&config.table).send().await;
        let _ = clients.s3.head_bucket().bucket("payloads").send().await;
        let hosts = stub.0.lock().expect("no panic").clone();
        hosts.try_into().expect("three calls")
    }

    #[tokio::test]
    async fn endpoints_are_those_of_the_sdks_settings_and_of_the_region() {
        assert_eq!(
            hosts("sqs://jobs", "us-east-1", true, false).await,
            [
                "sqs-fips.us-east-1.amazonaws.com",
                "dynamodb-fips.us-east-1.amazonaws.com",
                "payloads.s3-fips.us-east-1.amazonaws.com",
            ]
        );
        assert_eq!(
            hosts("sqs://jobs", "eu-central-1", false, true).await,
            [
                "sqs.eu-central-1.api.aws",
                "dynamodb.eu-central-1.api.aws",
                "payloads.s3.dualstack.eu-central-1.amazonaws.com",
            ]
        );
        assert_eq!(
            hosts("sqs://jobs", "cn-north-1", false, false).await,
            [
                "sqs.cn-north-1.amazonaws.com.cn",
                "dynamodb.cn-north-1.amazonaws.com.cn",
                "payloads.s3.cn-north-1.amazonaws.com.cn",
            ]
        );
        let arn = "sqs://jobs?table=arn:aws:dynamodb:eu-west-1:123456789012:table/results";
        assert_eq!(
            hosts(arn, "eu-central-1", false, false).await[1],
            "123456789012.ddb.eu-west-1.amazonaws.com"
        );
    }
}
