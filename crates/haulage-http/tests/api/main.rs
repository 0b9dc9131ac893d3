//! The API, as a program in any language has it.

mod bulk;
mod calls;
mod client;
mod hostile;
mod jobs;
mod keys;
mod stopping;
mod store;
