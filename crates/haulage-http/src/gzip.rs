//! Bodies in gzip, which every client, proxy and browser knows.

use std::io::{self, Write as _};

use flate2::{
    Compression,
    write::{GzEncoder, MultiGzDecoder},
};
#[cfg(feature = "client")]
use hyper::header::CONTENT_ENCODING;
use hyper::{
    HeaderMap,
    body::{Buf as _, Bytes},
};

/// Its name in `Content-Encoding` and `Accept-Encoding`.
pub(crate) const NAME: &str = "gzip";
/// A body of less goes as it is, in bytes: it fits into one packet either way.
pub(crate) const LEAST: usize = 1024;
/// How many bytes are inflated at a time, about.
const PART: usize = 64 << 10;

/// Writes down what goes by in gzip. Time counts for more than the last byte.
pub(crate) fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}

/// The whole of a body in gzip.
#[cfg(feature = "client")]
pub(crate) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = encoder();
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// What comes in gzip, inflated a part at a time: a few bytes may be as much as one likes.
#[derive(Debug)]
pub(crate) struct Inflater {
    decoder: MultiGzDecoder<Vec<u8>>,
    rest: Bytes,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self { decoder: MultiGzDecoder::new(Vec::new()), rest: Bytes::new() }
    }

    /// Takes what has arrived. What came before has been inflated.
    pub(crate) fn put(&mut self, bytes: Bytes) {
        self.rest = bytes;
    }

    /// The next part of what has arrived, which is never empty.
    ///
    /// # Errors
    ///
    /// Where it is not gzip.
    pub(crate) fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.decoder.get_ref().len() < PART {
            if self.rest.is_empty() {
                // The last of it may be in the decoder, and there may be nothing more for a while.
                self.decoder.flush()?;
                break;
            }
            let taken = self.decoder.write(&self.rest)?;
            if taken == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.rest.advance(taken);
        }
        let part = std::mem::take(self.decoder.get_mut());
        Ok((!part.is_empty()).then(|| part.into()))
    }

    /// Sees to it that nothing is missing at the end.
    ///
    /// # Errors
    ///
    /// Where something is.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.decoder.try_finish()
    }
}

/// Whether whoever sent these headers takes gzip (RFC 9110, 12.5.3).
#[cfg(feature = "server")]
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let (mut named, mut any) = (None, None);
    for value in headers.get_all(hyper::header::ACCEPT_ENCODING) {
        for coding in value.to_str().unwrap_or_default().split(',') {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = weight.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
            let takes = weight.is_some_and(|weight| weight > 0.0);
            match name.trim() {
                name if is_gzip(name) => named = Some(takes),
                "*" => any = Some(takes),
                _ => {}
            }
        }
    }
    named.or(any).unwrap_or(false)
}

/// Whether a coding is this one.
pub(crate) fn is_gzip(coding: &str) -> bool {
    coding.eq_ignore_ascii_case(NAME) || coding.eq_ignore_ascii_case("x-gzip")
}

/// Whether what comes with these headers is in gzip.
#[cfg(feature = "client")]
pub(crate) fn is_used(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).and_then(|coding| coding.to_str().ok()).is_some_and(is_gzip)
}

#[cfg(all(test, feature = "client", feature = "server"))]
mod tests {
    use hyper::header::{ACCEPT_ENCODING, HeaderValue};

    use super::*;

    /// What comes out, with nothing left in the decoder after each piece.
    fn inflate<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<(Vec<u8>, usize)> {
        let (mut inflater, mut whole, mut largest) = (Inflater::new(), Vec::new(), 0);
        for piece in pieces {
            inflater.put(Bytes::copy_from_slice(piece));
            while let Some(part) = inflater.next()? {
                largest = largest.max(part.len());
                whole.extend_from_slice(&part);
            }
        }
        inflater.finish()?;
        Ok((whole, largest))
    }

    #[test]
    fn what_was_compressed_comes_back_in_whatever_pieces() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let packed = compress(&text).expect("compressed");
        for size in [1, 7, 1000, usize::MAX] {
            let (back, _) = inflate(packed.chunks(size)).expect("inflated");
            assert!(back == text, "in pieces of {size}");
        }
        // Several, one after the other, are one (RFC 1952, 2.2).
        let two = [compress(b"one").expect("compressed"), compress(b"two").expect("compressed")].concat();
        for size in [1, usize::MAX] {
            assert_eq!(inflate(two.chunks(size)).expect("inflated").0, b"onetwo");
        }
    }

    #[test]
    fn a_bomb_goes_off_a_little_at_a_time() {
        let bomb = compress(&vec![0; 20 << 20]).expect("compressed");
        assert!(bomb.len() < 200_000, "{}", bomb.len());
        let (back, largest) = inflate([&bomb[..]]).expect("inflated");
        assert_eq!(back.len(), 20 << 20);
        assert!(largest <= 2 * PART, "{largest}");
    }

    #[test]
    fn what_was_flushed_is_there_before_more_comes() {
        // Long runs, of which a few bits are much.
        let mut encoder = encoder();
        let mut inflater = Inflater::new();
        for size in [10, 32 << 10, PART, PART + 1, 1 << 20] {
            encoder.write_all(&vec![b'x'; size]).expect("compressed");
            encoder.flush().expect("flushed");
            inflater.put(std::mem::take(encoder.get_mut()).into());
            let mut count = 0;
            while let Some(part) = inflater.next().expect("inflated") {
                count += part.len();
            }
            assert_eq!(count, size);
        }
    }

    #[test]
    fn what_is_not_gzip_or_not_all_of_it_is_an_error() {
        let packed = compress(b"something").expect("compressed");
        let mut wrong = packed.clone();
        wrong[packed.len() - 5] ^= 1;
        let more = [&packed[..], b"more"].concat();
        for bytes in [&b"no gzip at all"[..], &[], &packed[..5], &packed[..packed.len() - 1], &wrong, &more] {
            assert!(inflate([bytes]).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn who_takes_gzip_says_so() {
        for (accepted, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("x-gzip", true),
            ("*", true),
            ("br, *;q=0.1", true),
            ("", false),
            ("br, zstd", false),
            ("gzip;q=0, *", false),
            ("gzip; q=0.000", false),
            ("*;q=0", false),
            ("gzip;q=no", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(is_accepted(&headers), expected, "{accepted}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
