//! A server that is measured, or that something is measured through.

use std::{path::Path, sync::Arc};

use haulage::{Backend, Producer};
use haulage_http::HttpBackend;

use super::{actor::Actor, pipeline};
use crate::exit::Result;

/// A server, on a database of its own.
pub(super) struct Served {
    pub(super) server: Actor,
    pub(super) url: String,
}

impl Served {
    pub(super) async fn start(path: &Path) -> Result<Self> {
        let mut server = Actor::start(&pipeline::url(path), &["serve"]).await?;
        server.go().await?;
        let url = server.line().await?;
        Ok(Self { server, url })
    }

    pub(super) async fn producer(&self) -> Result<(Producer, Arc<HttpBackend>)> {
        let backend = Arc::new(HttpBackend::connect(&self.url).await?);
        Ok((Producer::new(Arc::clone(&backend) as Arc<dyn Backend>), backend))
    }
}
