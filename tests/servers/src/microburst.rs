//! The proxy microburst: errors of AWS in their exact form, latency, resets,
//! and answers that are lost after the call was made.

use serde_json::{Value, json};

use crate::{Server, server::request};

/// A proxy in front of a server.
#[derive(Debug)]
pub struct Microburst {
    server: Server,
    port: u16,
}

/// One kind of failure, with its probability.
#[derive(Clone, Debug)]
pub struct Rule(Value);

impl Rule {
    fn new(service: &str, probability: f64) -> Self {
        Self(json!({ "service": service, "probability": probability }))
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.0[name] = value;
        self
    }

    /// An error answer instead of the call.
    #[must_use]
    pub fn error(service: &str, code: &str, status: u16, probability: f64) -> Self {
        Self::new(service, probability).with("error", json!({ "code": code, "status": status }))
    }

    /// The connection breaks before the call is made.
    #[must_use]
    pub fn reset(service: &str, probability: f64) -> Self {
        Self::new(service, probability).with("reset", json!(true))
    }

    /// The call is made, and its answer is lost.
    #[must_use]
    pub fn lost_answer(service: &str, probability: f64) -> Self {
        Self::new(service, probability).with("response", json!({ "abort_bytes": 0 }))
    }

    /// The call takes longer, by so many milliseconds.
    #[must_use]
    pub fn slow(service: &str, least: u32, most: u32, probability: f64) -> Self {
        Self::new(service, probability).with("latency", json!({ "min": least, "max": most }))
    }

    /// Only for this operation.
    #[must_use]
    pub fn only(self, operation: &str) -> Self {
        self.with("operation", json!(operation))
    }

    /// At most so often.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        self.with("times", json!(times))
    }
}

impl Microburst {
    /// Starts a proxy in front of `upstream`, without rules.
    ///
    /// # Panics
    ///
    /// If it is not installed or does not start.
    pub fn start(upstream: &str) -> Self {
        let server = Server::start(
            "microburst",
            "ministack/bin/microburst",
            "/_microburst/health",
            |command, port| {
                command.args(["--upstream", upstream, "--port", port, "--no-resign"]);
            },
        );
        let port = server.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        Self { server, port }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Replaces all rules.
    ///
    /// # Panics
    ///
    /// If the proxy does not take them.
    pub fn set(&self, rules: &[Rule]) {
        let rules: Vec<_> = rules.iter().map(|rule| rule.0.clone()).collect();
        let answer = request(self.port, "POST", "/_microburst/rules", &Value::from(rules).to_string());
        let answer = answer.expect("the proxy");
        assert!(answer.starts_with("HTTP/1.1 2"), "the proxy refuses the rules: {answer}");
    }

    /// How often rules have fired since the start.
    ///
    /// # Panics
    ///
    /// If the proxy does not answer.
    pub fn fired(&self) -> u64 {
        let metrics = request(self.port, "GET", "/_microburst/metrics", "").expect("the proxy");
        let counts = metrics.lines().filter(|line| line.starts_with("microburst_faults_total"));
        counts.filter_map(|line| line.rsplit(' ').next()?.trim().parse::<f64>().ok()).sum::<f64>() as u64
    }
}
