//! The API, as a program in any language has it.

mod bulk;
mod calls;
mod client;
mod encoding;
mod hostile;
mod jobs;
mod keys;
mod pages;
mod sessions;
mod stopping;
mod store;
