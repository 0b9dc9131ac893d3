//! Who asks, and from where.

use std::{net::IpAddr, ops::Deref};

use super::keys::Identity;

#[derive(Debug)]
pub(super) struct Caller {
    identity: Identity,
    /// See [`super::forwarded::Source::address`].
    pub(super) address: IpAddr,
}

impl Caller {
    pub(super) const fn new(identity: Identity, address: IpAddr) -> Self {
        Self { identity, address }
    }
}

impl Deref for Caller {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}
