//! Haulage over HTTP.
//!
//! | module | feature | what lives there |
//! | --- | --- | --- |
//! | [`server`] | `server` | `haulage serve`: the API, the keys, the workers' side, the pages |
//! | `client` | `client` | [`HttpBackend`], which speaks to such a server: `http://` and `https://` URLs |
//!
//! Both speak in [problem documents](Problem), and share what passes between them.

// A problem is made where one is rare, and is written down at once.
#![allow(clippy::result_large_err)]

#[cfg(feature = "client")]
mod client;
#[cfg(any(feature = "client", feature = "server"))]
mod gzip;
#[cfg(any(feature = "client", feature = "server"))]
mod pool;
mod problem;
#[cfg(any(feature = "client", feature = "server"))]
mod protocol;
mod retry_after;
#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "client")]
pub use client::{HttpBackend, HttpBackendBuilder};
pub use problem::Problem;
pub use retry_after::retry_after;
