//! What has to hold for whatever others write: the properties that `fuzz` tries,
//! beside the private parsers that they are about. They panic where one does not hold.

use crate::{Error, sqlite::Options, url::decode};

/// What follows `sqlite://` in a URL.
pub fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Options::of_url(&text) {
        Ok(_) => {}
        Err(Error::Config(message)) => assert!(!message.is_empty()),
        Err(error) => panic!("{error}"),
    }
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(decode(&encoded).expect("it is encoded"), text, "every path can be written");
}
