//! The program as its users have it: real processes, real databases.

mod cancel;
mod dead;
mod doctor;
mod errors;
mod exec;
mod help;
mod http;
mod jobs;
mod monitoring;
mod outages;
mod place;
mod python;
mod readme;
mod server;
mod signals;
mod simulate;
mod site;
mod submit;
