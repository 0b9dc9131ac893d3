//! The program as its users have it: real processes, real databases.

#[cfg(feature = "bench")]
mod bench;
mod cancel;
mod confinement;
mod database;
mod dead;
mod devices;
mod doctor;
mod e2e;
mod errors;
mod exec;
mod finishing;
mod fuzz;
mod guard;
mod help;
mod http;
mod jobs;
mod log;
mod monitoring;
mod outages;
mod pauses;
mod place;
mod python;
mod queues;
mod serve;
mod server;
mod serving;
mod signals;
mod simulate;
mod site;
mod submit;
mod terminal;
mod unready;
mod webhooks;
