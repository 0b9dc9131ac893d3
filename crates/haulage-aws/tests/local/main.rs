//! The backend against local servers that stand in for AWS.

mod cancels;
mod conformance;
mod delivery;
mod doctor;
mod examples;
mod faults;
mod helpers;
mod kept_bodies;
mod lost;
mod object_retention;
mod operators;
mod order;
mod other_programs;
mod own_records;
mod payloads;
mod place;
mod queues;
mod raw;
mod records;
mod setup;
mod step_functions;
mod trust;
mod webhooks;
