//! Where a request comes from, and what a proxy says of that.
//!
//! Only proxies that are named are believed: anybody can write any address into a header. Of a list of
//! addresses the last is what the nearest proxy saw, the one before is what that one was told; so it is read
//! from its end, up to the first that is not one of a proxy.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use haulage::{Error, Result};
use hyper::{
    HeaderMap,
    header::{FORWARDED, HOST},
};

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// An address, or all that begin alike: `127.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// How many bits they have in common.
    bits: u32,
}

impl Network {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => u128::from(own.to_bits() ^ other.to_bits()) << 96,
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= self.bits
    }
}

impl FromStr for Network {
    type Err = Error;

    /// # Errors
    ///
    /// [`Error::Invalid`] where it is neither an address nor a network, or where it is all addresses
    /// that there are.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::Invalid(format!("{text:?}: {why}; write it like 127.0.0.1, 10.0.0.0/8 or fd00::/8"))
        };
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong("this is not an address or a network"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(|| {
                wrong(&format!("what follows the / is not a number of bits from 1 to {most}"))
            })?,
        };
        if bits == 0 {
            return Err(wrong("that is every address there is"));
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Where a request comes from.
#[derive(Debug)]
pub(super) struct Source {
    /// The address of the client; where a proxy does not say, that of the proxy.
    pub(super) address: IpAddr,
    /// Under which names it was asked for: each proxy may give it another one.
    pub(super) hosts: Vec<String>,
    /// Something stands in between that nobody has named as a proxy.
    pub(super) is_unnamed_proxy: bool,
}

/// Reads where a request comes from that this address has sent.
pub(super) fn source(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> Source {
    let peer = peer.to_canonical();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut hosts = vec![host.to_owned()];
    let given = |name: &str| {
        let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("?"));
        Some(lines.collect::<Vec<_>>().join(",")).filter(|_| headers.contains_key(name))
    };
    let (list, standard) = (given(FORWARDED_FOR), given(FORWARDED.as_str()));
    let forwarded_host = given(FORWARDED_HOST);
    let is_trusted = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(address));
    if !is_trusted(peer) {
        let is_unnamed_proxy = list.is_some() || standard.is_some() || forwarded_host.is_some();
        return Source { address: peer, hosts, is_unnamed_proxy };
    }
    let client = |hops: Vec<Option<IpAddr>>| {
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            match hop {
                Some(address) if is_trusted(client) => client = address,
                _ => break,
            }
        }
        client
    };
    hosts.extend(forwarded_host.iter().flat_map(|hosts| hosts.split(',')).map(|host| host.trim().to_owned()));
    let list = list.map(|list| client(list.split(',').map(address).collect()));
    let standard = standard.map(|text| {
        let mut hops = Vec::new();
        for element in split(&text, ',') {
            let mut hop = None;
            for (name, value) in split(element, ';').filter_map(|pair| pair.split_once('=')) {
                let (name, value) = (name.trim(), value.trim().trim_matches('"'));
                if name.eq_ignore_ascii_case("for") {
                    hop = address(value);
                } else if name.eq_ignore_ascii_case("host") {
                    hosts.push(value.to_owned());
                }
            }
            hops.push(hop);
        }
        client(hops)
    });
    let address = match (list, standard) {
        (Some(list), Some(standard)) if list != standard => {
            // A proxy writes one, and passes the other on as the client has sent it.
            tracing::debug!(%peer, %list, %standard, "X-Forwarded-For and Forwarded name different clients");
            peer
        }
        (Some(client), _) | (None, Some(client)) => client,
        (None, None) => peer,
    };
    Source { address, hosts, is_unnamed_proxy: false }
}

/// An address as proxies write it: with or without a port, one of IPv6 perhaps in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare =
        |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = |text: &str| text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(|| with_port(text)).or_else(|| bare(text));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The parts of a header, in which quotes hold together what is in them.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// What comes of a request from this address with these headers.
    fn read(peer: &str, sent: &[(&'static str, &str)]) -> Source {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        }
        source(ip(peer), &headers, &[network("127.0.0.1"), network("10.0.0.0/8"), network("fd00::/8")])
    }

    #[test]
    fn a_network_is_all_addresses_that_begin_so() {
        for (of, inside, outside) in [
            ("127.0.0.1", &["127.0.0.1"][..], &["127.0.0.2", "::1", "::ffff:7f00:1"][..]),
            ("10.0.0.0/8", &["10.0.0.0", "10.255.1.2"], &["11.0.0.0", "9.255.255.255", "::"]),
            ("10.1.2.3/9", &["10.127.0.0"], &["10.128.0.0"]),
            ("::1", &["::1"], &["::2", "0.0.0.1"]),
            ("fd00::/8", &["fd12::1"], &["fe00::", "253.0.0.0"]),
            ("0.0.0.0/1", &["127.255.0.0"], &["128.0.0.0"]),
        ] {
            assert!(inside.iter().all(|address| network(of).contains(ip(address))), "{of}");
            assert!(!outside.iter().any(|address| network(of).contains(ip(address))), "{of}");
        }
        for (text, says) in [
            ("", "not an address"),
            ("localhost", "not an address"),
            ("10.0.0.0/33", "from 1 to 32"),
            ("::/129", "from 1 to 128"),
            ("10.0.0.0/x", "number of bits"),
            ("0.0.0.0/0", "every address"),
        ] {
            let error = text.parse::<Network>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(network("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn a_named_proxy_says_who_asks() {
        for (sent, expected) in [
            (&[][..], "127.0.0.1"),
            (&[("x-forwarded-for", "192.0.2.7")], "192.0.2.7"),
            (&[("x-forwarded-for", " 192.0.2.7:4711 ")], "192.0.2.7"),
            (&[("x-forwarded-for", "2001:db8::7")], "2001:db8::7"),
            (&[("x-forwarded-for", "[2001:db8::7]:4711")], "2001:db8::7"),
            (&[("x-forwarded-for", "::ffff:192.0.2.7")], "192.0.2.7"),
            // Through another proxy, which is named as well; then through one that is not.
            (&[("x-forwarded-for", "192.0.2.7, 10.1.1.1")], "192.0.2.7"),
            (&[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-for", "10.1.1.1")], "192.0.2.7"),
            (&[("x-forwarded-for", "192.0.2.7, 198.51.100.1, 10.1.1.1")], "198.51.100.1"),
            // What a client has written itself stands before what the proxy wrote.
            (&[("x-forwarded-for", "127.0.0.1, 192.0.2.7")], "192.0.2.7"),
            (&[("x-forwarded-for", "10.1.1.1, 10.2.2.2")], "10.1.1.1"),
            (&[("x-forwarded-for", "192.0.2.7, unknown, 10.1.1.1")], "10.1.1.1"),
            (&[("x-forwarded-for", "nonsense")], "127.0.0.1"),
            (&[("forwarded", "for=192.0.2.7")], "192.0.2.7"),
            (&[("forwarded", "For=\"[2001:db8::7]:4711\";proto=https, for=10.1.1.1;by=x")], "2001:db8::7"),
            (&[("forwarded", "for=\"a, for=192.0.2.9\", for=192.0.2.7")], "192.0.2.7"),
            (&[("forwarded", "for=_hidden")], "127.0.0.1"),
            (&[("forwarded", "proto=https")], "127.0.0.1"),
            // One of the two is the client's own word.
            (&[("forwarded", "for=192.0.2.9"), ("x-forwarded-for", "192.0.2.7")], "127.0.0.1"),
            (&[("forwarded", "for=192.0.2.7"), ("x-forwarded-for", "192.0.2.7")], "192.0.2.7"),
        ] {
            let source = read("127.0.0.1", sent);
            assert_eq!((source.address, source.is_unnamed_proxy), (ip(expected), false), "{sent:?}");
        }
        assert_eq!(read("::ffff:10.0.0.1", &[("x-forwarded-for", "192.0.2.7")]).address, ip("192.0.2.7"));
        let hosts = read(
            "10.0.0.1",
            &[("host", "a"), ("x-forwarded-host", "b, c"), ("forwarded", "for=10.0.0.1;host=\"d:80\"")],
        );
        assert_eq!(hosts.hosts, ["a", "b", "c", "d:80"]);
    }

    #[test]
    fn nobody_else_is_believed() {
        for header in [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")] {
            let source = read("192.0.2.7", &[header, ("host", "a")]);
            assert_eq!((source.address, source.is_unnamed_proxy), (ip("192.0.2.7"), true), "{header:?}");
            assert_eq!(source.hosts, ["a"]);
        }
        assert!(read("192.0.2.7", &[("x-forwarded-host", "localhost")]).is_unnamed_proxy);
        assert!(!read("192.0.2.7", &[("host", "a")]).is_unnamed_proxy);
    }
}
