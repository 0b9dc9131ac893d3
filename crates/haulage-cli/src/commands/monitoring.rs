//! What a worker publishes of itself.

use std::io;

use haulage::metrics::{Emf, EmfWriter, Labels, Listener, Meter, Serving};

use crate::{
    env,
    exit::{Code, Exit, Result},
};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Monitoring")]
pub(super) struct MonitoringArgs {
    #[arg(long, value_name = "ADDRESS", env = env::HTTP_LISTEN.name, help = env::HTTP_LISTEN.help)]
    http_listen: Option<String>,

    #[arg(
        long, value_name = "NAME", requires = "service_name",
        env = env::CLUSTER_NAME.name, help = env::CLUSTER_NAME.help
    )]
    cluster_name: Option<String>,

    #[arg(
        long, value_name = "NAME", requires = "cluster_name",
        env = env::SERVICE_NAME.name, help = env::SERVICE_NAME.help
    )]
    service_name: Option<String>,
}

/// What is published while the worker starts: the pages, which say so.
pub(super) struct Starting {
    listener: Option<Listener>,
    emf: Option<Emf>,
}

/// Publishes for as long as it is there.
pub(super) struct Monitoring {
    emf: Option<EmfWriter>,
    _serving: Option<Serving>,
}

impl MonitoringArgs {
    /// All of it, under the names that `haulage.Worker` has for it.
    pub(super) fn options(&self) -> [(&'static str, serde_json::Value); 3] {
        [
            ("http_listen", self.http_listen.clone().into()),
            ("cluster_name", self.cluster_name.clone().into()),
            ("service_name", self.service_name.clone().into()),
        ]
    }

    /// Takes the address, so that a wrong one is known before anything else
    /// begins, and answers there from then on.
    pub(super) fn open(&self, url: &str) -> Result<Starting> {
        let labels = Labels::of(url);
        let queue = labels.default_queue.clone();
        let listener =
            self.http_listen.as_deref().map(|address| Listener::bind(address, labels)).transpose()?;
        let emf = self.cluster_name.clone().zip(self.service_name.clone());
        let emf = emf.map(|(cluster, service)| Emf { cluster, service, queue });
        Ok(Starting { listener, emf })
    }
}

impl Starting {
    pub(super) fn start(self, meter: &Meter) -> Result<Monitoring> {
        let serving = self.listener.map(|listener| listener.serve(meter.clone()));
        let emf = self.emf.map(|emf| EmfWriter::start(emf, meter.clone(), io::stdout())).transpose();
        let emf =
            emf.map_err(|error| Exit::new(Code::Failure, format!("cannot publish metrics: {error}")))?;
        Ok(Monitoring { emf, _serving: serving })
    }
}

impl Monitoring {
    /// Writes what is left to be written.
    pub(super) fn finish(self) {
        if let Some(emf) = self.emf {
            emf.finish();
        }
    }
}
