//! What tests of the AWS backend take for granted about the servers and the
//! proxies: that a failure is told as AWS tells it, and that what is said to
//! have been done, or not, is so.

mod life;
mod microburst;
mod stub;
mod wire;
