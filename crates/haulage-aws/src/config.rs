//! Where the queue, the table and the bucket are, and how to use them.

use std::time::Duration;

use haulage::{
    Error, Result,
    url::{self, Scheme, decode, parameters},
};

use crate::{ScaleInProtection, queue_name::of_sqs};

/// Everything that can be set about the backend; each field is also a method
/// of [`Builder`](crate::Builder) and a parameter of the URL, of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The name of the queue, or its URL. A name that ends in `.fifo` means a
    /// FIFO queue.
    pub queue: String,
    /// The name of the DynamoDB table for the records; or its ARN, where it is
    /// another account's. Default: the name of the queue, without `.fifo`.
    pub table: String,
    /// The S3 bucket for large bodies and results. Default: none.
    pub bucket: Option<String>,
    /// The account that the bucket is in, by its 12 digits: S3 refuses to
    /// read or write in one of another. Default: any account.
    pub bucket_owner: Option<String>,
    /// Bodies and results over this size, in bytes, go to the bucket, if there
    /// is one. Default: 8 KiB, from where on it costs less there; at most 256 KiB.
    pub offload_above: usize,
    /// Whether a body of more than 512 bytes that is not in the bucket is also kept beside the
    /// record from the submit on, which is a write for each KiB of it. Without, only the
    /// message has it until the job ends without success: it is not shown before, a job that
    /// was cancelled can be redriven once a consumer has seen its message, and none whose
    /// message SQS has deleted. Default: it is not.
    pub keep_bodies: bool,
    /// Whether successes are written without `expiration`, so that the client of the earlier package
    /// of `Consumer` and `Producer` can read them: it takes a success that expires for one that it
    /// cannot read. To Haulage they expire as others do, but DynamoDB deletes none; a purge does.
    /// Default: with it.
    pub keep_successes: bool,
    /// How bodies and results of 1 KiB and more are compressed. Default: not.
    pub compression: Compression,
    /// How bodies are read that other programs have sent. Default: as JSON.
    pub raw_bodies: RawBodies,
    /// What services of AWS have put around a body, and is taken off. Default: nothing.
    pub unwrap: Unwrap,
    /// The AWS region. Default: as the environment and profile say.
    pub region: Option<String>,
    /// The profile of the shared configuration files. Default: as the
    /// environment says.
    pub profile: Option<String>,
    /// The endpoint of all services, for local servers. Default: as the
    /// environment says (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SQS`, …).
    pub endpoint: Option<String>,
    /// The AWS region of the table, where it is not that of the queue.
    pub table_region: Option<String>,
    /// The endpoint of DynamoDB, where it is not that of the other services.
    pub table_endpoint: Option<String>,
    /// Protection of ECS tasks against scale-in while they work.
    pub ecs_protection: ScaleInProtection,
    /// For how long one call protects the task; it is renewed at half of this.
    /// Default: 60 minutes; 1 minute to 48 hours.
    pub ecs_protection_expires: Duration,
    /// How long a message may be held from its receive on, before it is handed
    /// over. Default: 11 h 45 min, just under the 12 hours of SQS (Amazon SQS
    /// Developer Guide, "Amazon SQS visibility timeout"). Less is for tests.
    pub visibility_limit: Duration,
}

/// How bodies and results are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all: everything can be read in the console.
    #[default]
    None,
    /// With Zstandard, where that makes it smaller.
    Zstd,
}

impl std::str::FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Error::Config(format!("compression is `{text}`, and can be none or zstd"))),
        }
    }
}

/// How bodies are read that other programs have sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RawBodies {
    /// As JSON; what is none is no job.
    #[default]
    Json,
    /// As text, whatever it looks like: the body of the job is a JSON string.
    Text,
}

impl std::str::FromStr for RawBodies {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(Error::Config(format!("raw_bodies is `{text}`, and can be json or text"))),
        }
    }
}

/// What services of AWS put around a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unwrap {
    /// The notification of an SNS topic that does not deliver raw messages.
    pub sns: bool,
    /// The event of an S3 bucket: the job's body says which object, and what became of it.
    pub s3: bool,
}

impl std::str::FromStr for Unwrap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut unwrap = Self::default();
        for name in text.split(',') {
            match name.trim() {
                "sns" => unwrap.sns = true,
                "s3" => unwrap.s3 = true,
                _ => return Err(Error::Config(format!("unwrap is `{text}`, and can be sns, s3 or sns,s3"))),
            }
        }
        Ok(unwrap)
    }
}

/// The names of the parameters of an `sqs://` URL.
const PARAMETERS: &str = "table, bucket, bucket_owner, offload_above, keep_bodies, keep_successes, compression, raw_bodies, \
                          unwrap, region, profile, endpoint, table_region, table_endpoint, ecs_protection, \
                          ecs_protection_expires, visibility_limit";

impl Config {
    /// The defaults for this queue.
    pub fn new(queue: impl Into<String>) -> Self {
        let queue = queue.into();
        let name = queue_name(&queue);
        Self {
            table: name.strip_suffix(".fifo").unwrap_or(name).to_owned(),
            queue,
            bucket: None,
            bucket_owner: None,
            offload_above: 8 << 10,
            keep_bodies: false,
            keep_successes: false,
            compression: Compression::None,
            raw_bodies: RawBodies::Json,
            unwrap: Unwrap::default(),
            region: None,
            profile: None,
            endpoint: None,
            table_region: None,
            table_endpoint: None,
            ecs_protection: ScaleInProtection::default(),
            ecs_protection_expires: Duration::from_secs(3600),
            visibility_limit: Duration::from_secs(12 * 3600 - 15 * 60),
        }
    }

    /// The name of the queue, also where [`Config::queue`] is a URL.
    pub fn queue_name(&self) -> &str {
        queue_name(&self.queue)
    }

    /// Whether the queue is a FIFO queue, by its name.
    pub fn is_fifo(&self) -> bool {
        self.queue_name().ends_with(".fifo")
    }

    /// The table, where it is named by its ARN.
    pub(crate) fn table_arn(&self) -> Option<TableArn<'_>> {
        TableArn::parse(&self.table)
    }

    /// From a URL: `sqs://jobs.fifo?table=results&bucket=payloads&region=eu-central-1`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the mistake and what would be right.
    pub fn from_url(url: &str) -> Result<Self> {
        let Ok((Scheme::Sqs, rest)) = url::split(url) else {
            return Err(Error::Config(format!(
                "`{url}` is not an sqs:// URL; write sqs://jobs.fifo?table=results"
            )));
        };
        let (queue, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut config = Self::new(decode(queue.trim_end_matches('/'))?);
        config.set_all(query)?;
        config.validate()?;
        Ok(config)
    }

    /// From the URL of a table, for [`Records`](crate::Records):
    /// `dynamodb://results?region=eu-central-1`. It names no queue.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the mistake and what would be right.
    pub fn from_table_url(url: &str) -> Result<Self> {
        let (scheme, rest) = url.trim().split_once("://").unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("dynamodb") {
            return Err(Error::Config(format!(
                "`{url}` is not a dynamodb:// URL; write dynamodb://results?region=eu-central-1"
            )));
        }
        let (table, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut config = Self::new("");
        config.set_all(query)?;
        config.table = decode(table.trim_end_matches('/'))?;
        config.validate_storage()?;
        Ok(config)
    }

    fn set_all(&mut self, query: &str) -> Result<()> {
        for parameter in parameters(query) {
            let (name, value) = parameter?;
            self.set(name, &value)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if value.is_empty() {
            return Err(Error::Config(format!("the parameter `{name}` has no value; leave it out instead")));
        }
        match name {
            "table" => self.table = value.into(),
            "bucket" => self.bucket = Some(value.into()),
            "bucket_owner" => self.bucket_owner = Some(value.into()),
            "offload_above" => {
                self.offload_above = value.parse().map_err(|_| {
                    Error::Config(format!("offload_above is `{value}`, and should be a number of bytes"))
                })?;
            }
            "keep_bodies" => self.keep_bodies = truth(name, value)?,
            "keep_successes" => self.keep_successes = truth(name, value)?,
            "compression" => self.compression = value.parse()?,
            "raw_bodies" => self.raw_bodies = value.parse()?,
            "unwrap" => self.unwrap = value.parse()?,
            "region" => self.region = Some(value.into()),
            "profile" => self.profile = Some(value.into()),
            "endpoint" => self.endpoint = Some(value.into()),
            "table_region" => self.table_region = Some(value.into()),
            "table_endpoint" => self.table_endpoint = Some(value.into()),
            "ecs_protection" => self.ecs_protection = value.parse()?,
            "ecs_protection_expires" => self.ecs_protection_expires = duration(name, value)?,
            "visibility_limit" => self.visibility_limit = duration(name, value)?,
            _ => return Err(Error::Config(format!("unknown parameter `{name}`; sqs:// knows {PARAMETERS}"))),
        }
        Ok(())
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the setting and its range.
    pub fn validate(&self) -> Result<()> {
        let bad = |text: String| Err(Error::Config(text));
        let name = self.queue_name();
        let base = name.strip_suffix(".fifo").unwrap_or(name);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if base.is_empty() || name.len() > 80 || !base.chars().all(plain) {
            return bad(format!(
                "`{name}` is not the name of a queue: 1 to 80 letters, digits, hyphens and underscores, \
                 and .fifo at the end for a FIFO queue; write sqs://jobs.fifo?table=results"
            ));
        }
        if let (store, queue) = of_sqs(name)
            && !queue.is_default()
        {
            return bad(format!(
                "`{name}` is the name of the queue {queue} of sqs://{store}; write that URL, and --queue {queue}"
            ));
        }
        self.validate_storage()?;
        let expires = self.ecs_protection_expires;
        if !(Duration::from_secs(60)..=Duration::from_secs(48 * 3600)).contains(&expires) {
            return bad("ecs_protection_expires is not between 1 minute and 48 hours".into());
        }
        if self.visibility_limit > Duration::from_secs(12 * 3600) {
            return bad("visibility_limit is over the 12 hours that SQS has".into());
        }
        Ok(())
    }

    /// The same, of what concerns table and bucket.
    pub(crate) fn validate_storage(&self) -> Result<()> {
        let bad = |text: String| Err(Error::Config(text));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let table = self.table_arn().map_or(&*self.table, |arn| arn.table);
        if !(3..=255).contains(&table.len()) || !table.chars().all(|c| plain(c) || c == '.') {
            return bad(format!(
                "`{table}` is not the name of a table: 3 to 255 letters, digits, hyphens, underscores and dots; \
                 or its ARN, as in arn:aws:dynamodb:eu-central-1:123456789012:table/results"
            ));
        }
        let is_account = |id: &String| id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_digit());
        if let Some(owner) = self.bucket_owner.as_ref().filter(|owner| !is_account(owner)) {
            return bad(format!("bucket_owner is `{owner}`, and should be the 12 digits of an account"));
        }
        if self.offload_above > 256 << 10 {
            return bad(format!("offload_above is {}, and may be 262144 at most", self.offload_above));
        }
        Ok(())
    }
}

/// A table by its ARN (Amazon DynamoDB Developer Guide, "Cross-account access with
/// resource-based policies").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableArn<'a> {
    pub(crate) region: &'a str,
    pub(crate) table: &'a str,
}

impl TableArn<'_> {
    pub(crate) fn parse(text: &str) -> Option<TableArn<'_>> {
        let [arn, _partition, service, region, _account, resource] =
            text.splitn(6, ':').collect::<Vec<_>>().try_into().ok()?;
        let table = resource.strip_prefix("table/")?;
        (arn == "arn" && service == "dynamodb" && !region.is_empty()).then_some(TableArn { region, table })
    }
}

fn queue_name(queue: &str) -> &str {
    if queue.contains("://") { queue.rsplit('/').next().unwrap_or(queue) } else { queue }
}

fn truth(name: &str, value: &str) -> Result<bool> {
    value.parse().map_err(|_| Error::Config(format!("{name} is `{value}`, and can be true or false")))
}

pub(crate) fn duration(name: &str, value: &str) -> Result<Duration> {
    haulage::parse_duration(value)
        .map_err(|e| Error::Config(format!("{name}={value}: {e}; write it like 30s or 2h")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_url() {
        let config = Config::from_url(
            "sqs://jobs.fifo?table=results&bucket=payloads&bucket_owner=123456789012&region=eu-central-1&compression=zstd\
             &endpoint=http%3A%2F%2F127.0.0.1:4566&ecs_protection=require&visibility_limit=1h",
        )
        .expect("a URL");
        assert_eq!(
            (config.queue_name(), config.table.as_str(), config.is_fifo()),
            ("jobs.fifo", "results", true)
        );
        assert_eq!(config.bucket.as_deref(), Some("payloads"));
        assert_eq!(config.bucket_owner.as_deref(), Some("123456789012"));
        assert_eq!(config.endpoint.as_deref(), Some("http://127.0.0.1:4566"));
        assert_eq!(config.compression, Compression::Zstd);
        assert_eq!(config.ecs_protection, ScaleInProtection::Require);
        assert_eq!(config.visibility_limit, Duration::from_secs(3600));
        let config = Config::from_url("sqs://jobs?table_region=eu-west-1&table_endpoint=http://t:8000");
        let config = config.expect("a URL");
        assert_eq!(config.table_region.as_deref(), Some("eu-west-1"));
        assert_eq!(config.table_endpoint.as_deref(), Some("http://t:8000"));
        assert_eq!((config.region, config.endpoint), (None, None));
        assert_eq!(Config::from_url("sqs://jobs").expect("a URL").table, "jobs");
        let arn = "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/results";
        let config = Config::from_url(&format!("sqs://jobs?table={arn}")).expect("a URL");
        assert_eq!(config.table_arn(), Some(TableArn { region: "cn-north-1", table: "results" }));
        assert_eq!(Config::from_url("SQS://jobs.fifo/").expect("a URL").table, "jobs");
        assert!(!config.keep_successes);
        let config =
            Config::from_table_url("dynamodb://results?bucket=b&keep_successes=true").expect("a URL");
        assert_eq!((config.table.as_str(), config.bucket.as_deref()), ("results", Some("b")));
        assert!(config.keep_successes);
    }

    #[test]
    fn says_what_would_be_right() {
        for (url, part) in [
            ("sqlite://x.db", "not an sqs:// URL"),
            ("sqs://", "not the name of a queue"),
            ("sqs://a/b", "not the name of a queue"),
            ("sqs://jobs--bulk.fifo", "the queue bulk of sqs://jobs.fifo; write that URL, and --queue bulk"),
            ("sqs://jobs.fifo?tabel=x", "unknown parameter `tabel`; sqs:// knows table, bucket"),
            ("sqs://jobs?table=", "has no value"),
            ("sqs://jobs?table=a", "not the name of a table"),
            ("sqs://jobs?table=arn:aws:sqs:eu-central-1:123456789012:results", "or its ARN, as in"),
            (
                "sqs://jobs?table=arn:aws:dynamodb:eu-central-1:123456789012:table/a b",
                "not the name of a table",
            ),
            ("sqs://jobs?compression=gzip", "none or zstd"),
            ("sqs://jobs?bucket=b&bucket_owner=me", "12 digits of an account"),
            ("sqs://jobs?raw_bodies=xml", "json or text"),
            ("sqs://jobs?unwrap=sns,sqs", "sns, s3 or sns,s3"),
            ("sqs://jobs?offload_above=1MiB", "number of bytes"),
            ("sqs://jobs?keep_bodies=no", "keep_bodies is `no`, and can be true or false"),
            ("sqs://jobs?keep_successes=1", "keep_successes is `1`, and can be true or false"),
            ("sqs://jobs?offload_above=1048576", "262144 at most"),
            ("sqs://jobs?visibility_limit=soon", "30s"),
            ("sqs://jobs?visibility_limit=13h", "12 hours"),
            ("sqs://jobs?ecs_protection_expires=3d", "48 hours"),
            ("sqs://jobs?table=%zz", "%25"),
        ] {
            let message = Config::from_url(url).expect_err(url).to_string();
            assert!(message.contains(part), "{url}: {message}");
        }
        for (url, part) in [("sqs://jobs", "not a dynamodb:// URL"), ("dynamodb://a?region=", "has no value")]
        {
            let message = Config::from_table_url(url).expect_err(url).to_string();
            assert!(message.contains(part), "{url}: {message}");
        }
    }
}
