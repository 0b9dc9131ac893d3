//! The secrets by which receivers know that a delivery comes from here.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use haulage::{Error, Result};
use ring::hmac;

/// What precedes the base64 of a secret, in the specification of Standard Webhooks.
const PREFIX: &str = "whsec_";
/// How many bytes a secret may have; the specification, too.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How many secrets sign at once: the one that goes, and the one that comes.
const MOST: usize = 2;
/// How often to look whether the file has changed.
const LOOK: Duration = Duration::from_secs(1);

/// Other programs leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret that is shared with receivers of webhooks, by which deliveries are signed.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl WebhookSecret {
    /// A new one, as it is written: `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where the system gives no random numbers.
    pub fn create() -> Result<String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::unavailable("the system gives no random numbers", error))?;
        Ok(format!("{PREFIX}{}", BASE64.encode(bytes)))
    }

    /// The signature of a delivery, under its id and at this time, in seconds since 1970.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let mut signing = hmac::Context::with_key(&self.0);
        for part in [id, ".", &seconds.to_string(), ".", body] {
            signing.update(part.as_bytes());
        }
        format!("v1,{}", BASE64.encode(signing.sign()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

impl FromStr for WebhookSecret {
    type Err = Error;

    /// # Errors
    ///
    /// [`Error::Invalid`], which does not have the text in it.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::Invalid(format!("{why}; a secret is {PREFIX} and the base64 of 24 to 64 random bytes"))
        };
        let base64 = text.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin with whsec_"))?;
        let bytes = BASE64.decode(base64).map_err(|_| wrong("what follows whsec_ is not base64"))?;
        if !BYTES.contains(&bytes.len()) {
            return Err(wrong(&format!("it has {} bytes", bytes.len())));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

/// A file with the secrets, one a line. It is read again when it changes.
#[derive(Debug)]
pub(super) struct SecretFile {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    secrets: Arc<[WebhookSecret]>,
    changed: Option<(SystemTime, u64)>,
    looked: Instant,
    failed: bool,
}

impl SecretFile {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let read =
            Read { changed: changed(&path), secrets: read(&path)?, looked: Instant::now(), failed: false };
        Ok(Self { path, read: Mutex::new(read) })
    }

    /// Those that are in it now.
    pub(super) fn secrets(&self) -> Arc<[WebhookSecret]> {
        self.look(Instant::now())
    }

    fn look(&self, now: Instant) -> Arc<[WebhookSecret]> {
        let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(last.looked) >= LOOK {
            last.looked = now;
            let changed = changed(&self.path);
            if changed != last.changed {
                match read(&self.path) {
                    Ok(secrets) => (last.secrets, last.changed, last.failed) = (secrets, changed, false),
                    // It is tried again, as it may be half-written.
                    Err(error) => {
                        if !std::mem::replace(&mut last.failed, true) {
                            tracing::warn!(%error, "cannot read the secrets of webhooks; those read before stay in use");
                        }
                    }
                }
            }
        }
        Arc::clone(&last.secrets)
    }
}

fn changed(path: &Path) -> Option<(SystemTime, u64)> {
    fs::metadata(path).and_then(|metadata| Ok((metadata.modified()?, metadata.len()))).ok()
}

fn read(path: &Path) -> Result<Arc<[WebhookSecret]>> {
    let refused =
        |why: &dyn fmt::Display| Error::Config(format!("cannot use {} for webhooks: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| refused(&error))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let secrets: Vec<WebhookSecret> = lines
        .map(|(n, line)| line.parse().map_err(|error| refused(&format!("line {}: {error}", n + 1))))
        .collect::<Result<_>>()?;
    match secrets.len() {
        0 => Err(refused(&"there is no secret in it; `haulage webhook secret` makes one")),
        1..=MOST => Ok(secrets.into()),
        many => Err(refused(&format!("there are {many} secrets in it; it can have {MOST}, one a line"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the libraries of Standard Webhooks.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signs_as_the_libraries_of_standard_webhooks_do() {
        let secret: WebhookSecret = SECRET.parse().expect("a secret");
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_24_to_64_bytes_in_base64_and_is_not_repeated_in_errors() {
        let made = WebhookSecret::create().expect("a secret");
        assert!(made.parse::<WebhookSecret>().is_ok(), "{made}");
        assert_ne!(made, WebhookSecret::create().expect("another"));
        assert!(made.trim_end_matches('=').parse::<WebhookSecret>().is_ok(), "without padding");
        assert!(!format!("{:?}", made.parse::<WebhookSecret>()).contains(&made[10..]));
        let short = format!("whsec_{}", BASE64.encode([1; 23]));
        let long = format!("whsec_{}", BASE64.encode([1; 65]));
        for (text, why) in [
            (&SECRET[6..], "begin with"),
            ("whsec_!SECRET!", "not base64"),
            (&short, "23 bytes"),
            (&long, "65 bytes"),
        ] {
            let error = text.parse::<WebhookSecret>().expect_err(text).to_string();
            assert!(error.contains(why) && !error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn a_file_has_one_or_two_and_is_read_again() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("secrets");
        assert!(SecretFile::open(path.clone()).is_err(), "there is none");
        for (text, why) in
            [("\n", "no secret"), ("x", "line 1"), (&format!("{SECRET}\n").repeat(3), "3 secrets")]
        {
            fs::write(&path, text).expect("write");
            let error = SecretFile::open(path.clone()).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
        fs::write(&path, format!("{SECRET}\n")).expect("write");
        let file = SecretFile::open(path.clone()).expect("open");
        assert_eq!(file.secrets().len(), 1);
        fs::write(&path, format!("{SECRET}\n{}\n", WebhookSecret::create().expect("a secret")))
            .expect("write");
        assert_eq!(file.secrets().len(), 1, "not at once");
        assert_eq!(file.look(Instant::now() + LOOK).len(), 2);
        fs::write(&path, "broken").expect("write");
        assert_eq!(file.look(Instant::now() + 3 * LOOK).len(), 2, "what was there before holds");
    }
}
