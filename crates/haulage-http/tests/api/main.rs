//! The API, as a program in any language has it.

mod bulk;
mod calls;
mod client;
mod document;
mod encoding;
mod events;
mod hostile;
mod jobs;
mod keys;
mod outage;
mod pages;
mod receiver;
mod sessions;
mod slots;
mod stopping;
mod store;
mod unready;
mod webhooks;
