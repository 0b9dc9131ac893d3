//! Which addresses deliveries may go to.
//!
//! Whoever submits a job names a URL, and the server sends there: to what only the server can reach, too, if
//! nothing kept it from that. So an address counts and not a name, which may lead anywhere by the time that it
//! is used: names are looked up first, and the connection is made to an address that was found to be allowed.

use std::{io, net::IpAddr, sync::Arc};

use crate::{pool::Resolver, server::Network};

/// What is not on the internet for everybody (IANA's IPv4 and IPv6 Special-Purpose Address Registries), and
/// what leads to other addresses: IPv4 by 6to4 and Teredo. Of IPv6, besides, only `2000::/3` is.
const NOT_PUBLIC: [&str; 19] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
];

/// Where deliveries may go.
#[derive(Debug)]
pub(in crate::server) struct Reach {
    not_public: Vec<Network>,
    /// May be reached in any case, without TLS, too.
    allowed: Vec<Network>,
}

impl Reach {
    pub(super) fn new(allowed: Vec<Network>) -> Self {
        let not_public = NOT_PUBLIC.iter().filter_map(|network| network.parse().ok()).collect();
        Self { not_public, allowed }
    }

    /// Whether any address may be reached without TLS.
    pub(super) fn allows_plain(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Whether this address may be reached.
    pub(super) fn permits(&self, address: IpAddr, is_secure: bool) -> bool {
        // An IPv4 address is one in whichever form.
        let address = address.to_canonical();
        self.allowed.iter().any(|network| network.contains(address)) || (is_secure && self.is_public(address))
    }

    fn is_public(&self, address: IpAddr) -> bool {
        let is_unicast = match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => address.segments()[0] & 0xe000 == 0x2000,
        };
        is_unicast && !self.not_public.iter().any(|network| network.contains(address))
    }

    /// Looks names up, and finds no addresses but those that may be reached.
    pub(super) fn resolver(reach: &Arc<Self>, is_secure: bool) -> Resolver {
        let reach = Arc::clone(reach);
        Resolver::choosing(move |name, found| {
            let (may, may_not): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|found| reach.permits(found.ip(), is_secure));
            match may_not.first() {
                // Whoever named the name learns nothing of the network that it is looked up in.
                Some(refused) if may.is_empty() => {
                    let address = refused.ip();
                    tracing::info!(target: "haulage::webhooks", name, %address, "webhook not delivered: the address is not allowed");
                    let why = refusal("the address of this name", is_secure);
                    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
                }
                _ => Ok(may),
            }
        })
    }

    /// Why a host may not be reached that is an address; a name is looked at when it is looked up.
    pub(super) fn check_literal(&self, host: &str, is_secure: bool) -> Result<(), String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) if !self.permits(address, is_secure) => {
                Err(refusal(&address.to_canonical().to_string(), is_secure))
            }
            _ => Ok(()),
        }
    }
}

fn refusal(address: &str, is_secure: bool) -> String {
    match is_secure {
        true => format!("{address} is not a public address, and --webhook-allow does not name it"),
        false => format!("{address} may not be reached without TLS: it is in no network of --webhook-allow"),
    }
}

#[cfg(test)]
mod tests {
    use tower_service::Service as _;

    use super::*;

    fn reach(allowed: &[&str]) -> Reach {
        Reach::new(allowed.iter().map(|network| network.parse().expect("a network")).collect())
    }

    #[test]
    fn only_what_is_on_the_internet_is_reached() {
        let nothing = reach(&[]);
        assert_eq!(nothing.not_public.len(), NOT_PUBLIC.len());
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert!(nothing.permits(address, true), "{address}");
            assert!(!nothing.permits(address, false), "{address} without TLS");
        }
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert!(!nothing.permits(address, true), "{address}");
        }
    }

    #[test]
    fn what_is_named_is_reached_without_tls_too() {
        let own = reach(&["10.1.0.0/16", "fd00::/8"]);
        for (address, permitted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fc00::1", false),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(own.permits(address, false), permitted, "{address}");
            assert_eq!(own.permits(address, true), permitted, "{address}");
        }
        assert!(own.allows_plain() && !reach(&[]).allows_plain());
    }

    #[test]
    fn an_address_in_a_url_is_checked_as_well() {
        let nothing = reach(&[]);
        for host in ["127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254"] {
            assert!(nothing.check_literal(host, true).is_err(), "{host}");
        }
        for host in ["example.com", "8.8.8.8", "[2606:4700::1]", "localhost"] {
            assert_eq!(
                nothing.check_literal(host, true),
                Ok(()),
                "a name is looked at when it is looked up: {host}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_refused_when_it_is_looked_up() {
        // Forms of 127.0.0.1 that only the system's resolver understands are names, too.
        for name in ["localhost", "0x7f.1", "2130706433", "0177.0.0.1"] {
            for is_secure in [true, false] {
                let mut resolver = Reach::resolver(&Arc::new(reach(&[])), is_secure);
                let found = resolver.call(name.parse().expect("a name")).await;
                assert!(found.is_err(), "{name}: {found:?}");
            }
        }
        let mut resolver = Reach::resolver(&Arc::new(reach(&["127.0.0.0/8", "::1"])), false);
        let found = resolver.call("localhost".parse().expect("a name")).await.expect("this machine");
        assert!(found.count() > 0);
    }
}
